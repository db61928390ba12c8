//! Stator: the store of Amazon's Dynamo paper (SOSP 2007), built for Linux servers with io_uring.
//! This is the map of the house.
//!
//! ```text
//!    people          cli ─── main.rs                     words in, exit code out
//!                     │
//!    drivers        engine            sim                the real world │ the virtual world
//!                     └──────┬─────────┘                 both own: clock, sockets, disk, randomness
//!                            │  Event in, Effect out
//!    protocol      protocol::shard                       one per core: the hub
//!              │         │          │          │
//!          session   coordinator  replica    peers     neighbours: never meet
//!              │         │          │          │
//!                 wire   version   ring                  values: no state machines here
//!                                      │
//!    log                            storage              the local persistence engine
//!                            │
//!    words                   base                        ids, time, randomness, outbox, limits
//! ```
//!
//! 1. **[`protocol`] and [`storage`] never touch the world.** They take an event and the time, and
//!    leave effects in an outbox. `engine` performs the effects with io_uring; [`sim`] performs them
//!    from a seed. Everything that makes the store correct is tested there.
//! 2. **The tree is the paper.** Partitioning is [`protocol::ring`], versions are
//!    [`protocol::version`], request coordination is [`protocol::coordinator`], the local
//!    persistence engine is [`storage`]. Only [`protocol::wire`], [`protocol::session`],
//!    [`protocol::peers`], [`protocol::replica`] and [`protocol::shard`] are ours: language,
//!    connections of clients and of nodes, copy, hub.
//! 3. **Imports only go down the picture.** Rooms side by side never import each other.
//!    `tests/architecture.rs` reads the source and checks it.
//!
//! # The way of a request
//!
//! `wire` finds commands in bytes → `session` keeps a client's order → `shard` picks the core that
//! owns the key → `coordinator` says what the command means in terms of versions → `replica` joins
//! the new version with the stored one → `storage` appends and syncs → the reply leaves when it is
//! as durable as its namespace says.
//!
//! # Where a concept of the paper lives
//!
//! | Paper | Room |
//! |---|---|
//! | §4.2, §6.2 partitions, placement | [`protocol::ring`] |
//! | §4.3 preference lists | [`protocol::ring::Preferences`] |
//! | §4.4 data versioning | [`protocol::version`] |
//! | §4.5 get and put | [`protocol::coordinator`], [`protocol::replica`] |
//! | §4.8.3 failure detection | [`protocol::peers`]: who is not heard is down |
//! | §5 request state machine | [`protocol::shard`] |
//! | §5 local persistence engine | [`storage`] |
//! | §6.1 durability against latency | [`protocol::coordinator::Durability`], [`storage::commit`] |
//! | §6.4 client-driven coordination | each core's own port and `CLUSTER SLOTS`: [`protocol::shard`] |
//!
//! One node is whole, and is all that can be started. Nodes of a cluster pass commands on to whoever
//! holds the key, in the simulator alone and without copies: quorums, hints, Merkle trees, gossip and
//! the sockets between nodes are not in the house yet, and have no stubs.

pub mod base;
#[cfg(feature = "cli")]
pub mod cli;
#[cfg(feature = "engine")]
pub mod config;
#[cfg(feature = "engine")]
pub mod engine;
pub mod protocol;
pub mod sim;
pub mod storage;
