//! Load for servers that speak RESP, and latencies that can be trusted.
//!
//! Three things make a load generator lie, and each has its room here:
//!
//! - *It is slower than the server.* One thread drives all its connections through one io_uring
//!   ([`uring`], [`client`]), writes requests from templates ([`request`]) and reads replies in
//!   place ([`reply`]); nothing is allocated per operation.
//! - *It waits for a stalled server and so asks less of it.* In an open loop, due times are drawn
//!   in advance ([`schedule`]), requests queue on their connection ([`connection`]) and are counted
//!   from when they were due ([`recorder`]).
//! - *It takes errors for answers.* They are counted by their first word ([`record`]).
//!
//! The rest: what is asked ([`workload`], [`zipf`], [`contexts`], [`rng`]), how a run goes ([`run`],
//! [`thread`], [`args`]), clients that nobody wants ([`hostile`]), and what comes of it ([`report`], [`cpu`], [`hlog`], [`plot`],
//! [`compare`]).

pub mod args;
pub mod client;
pub mod compare;
pub mod connection;
pub mod contexts;
pub mod cpu;
pub mod hlog;
pub mod hostile;
pub mod plot;
pub mod record;
pub mod recorder;
pub mod reply;
pub mod report;
pub mod request;
pub mod rng;
pub mod run;
pub mod schedule;
pub mod thread;
pub mod uring;
pub mod workload;
pub mod zipf;
