//! A whole shard, and what one must not do to another: a file for each danger.

mod abroad;
mod background;
mod budget;
mod damage;
mod lateness;
mod order;
mod room;
mod stop;
mod unsynced;
mod world;
