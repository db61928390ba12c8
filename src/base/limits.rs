//! Every bound in one place: its unit and its reason. The assertions tie them to each other.
//!
//! What a user may set is a default here and a field of some room's settings there.

/// Longest key, in bytes. Fits the 16-bit length of a record.
pub const KEY_BYTES_MAX: usize = 16 * 1024;

/// Longest value unless configured otherwise, in bytes.
pub const VALUE_BYTES_DEFAULT: usize = 1024 * 1024;

/// Longest value that may be configured, in bytes. Beyond it one value stalls its core for long.
pub const VALUE_BYTES_MAX: usize = 64 * 1024 * 1024;

/// An object with all its siblings, as a multiple of the value limit.
pub const OBJECT_TO_VALUE_RATIO: usize = 4;

/// Arguments of one command, its name not counted.
pub const ARGUMENTS_MAX: usize = 1024;

/// Keys and values of one MSET.
pub const MSET_PAIRS_MAX: usize = 512;

/// One inline command, in bytes: people type it.
pub const INLINE_BYTES_MAX: usize = 4 * 1024;

/// The pattern of one SCAN, in bytes: matching costs its length in words for each byte of a key.
pub const SCAN_PATTERN_BYTES_MAX: usize = 1024;

/// The longest that a client may ask a request to wait, in milliseconds. It holds memory so long.
pub const REQUEST_TIMEOUT_MILLIS_MAX: u32 = 600_000;

/// Commands of one connection that wait for an answer. Beyond it nothing more is read from it.
pub const OUTSTANDING_MAX: usize = 1024;

/// Bytes of one connection that are read and not yet looked at, as its commands are held back.
pub const UNREAD_BYTES_MAX: usize = 256 * 1024;

/// Replies of one connection that wait for its client. Beyond it no more commands are executed,
/// and a client that takes nothing for long is let go.
pub const OUTPUT_BYTES_SOFT: usize = 128 * 1024;

/// Replies of one connection that may wait at all, unless values may be so large that one object
/// takes more.
pub const OUTPUT_BYTES_MAX: usize = 32 * 1024 * 1024;

/// The same before a client has said its password: it can only be told errors.
pub const STRANGER_OUTPUT_BYTES_MAX: usize = 64 * 1024;

/// How long a client may take over a request or a reply, and for each [`PROGRESS_BYTES`] of it.
pub const PATIENCE_SECONDS: u64 = 10;

/// What a client that is slow and not hostile manages within [`PATIENCE_SECONDS`].
pub const PROGRESS_BYTES: usize = 256 * 1024;

/// How long a client may take to say its password.
pub const PASSWORD_SECONDS: u64 = 5;

/// What a connection calls itself or its library, in bytes. It is kept as long as the connection.
pub const CLIENT_NAME_BYTES_MAX: usize = 1024;

/// Siblings of one key at which an operator is warned: a client writes without contexts.
pub const SIBLINGS_WARN: usize = 25;

/// Siblings of one key beyond which client writes are refused. Joins never are.
pub const SIBLINGS_MAX: usize = 100;

/// One context token for up to ten siblings, in bytes of printable ASCII.
pub const CONTEXT_BYTES_TYPICAL_MAX: usize = 1024;

/// Slots of the key space: Redis Cluster's number.
pub const SLOTS: usize = 16_384;

/// Partitions of a ring: a power of two in this range, fixed at creation.
pub const PARTITIONS_MIN: usize = 16;
/// See [`PARTITIONS_MIN`].
pub const PARTITIONS_MAX: usize = 16_384;
/// Partitions unless configured otherwise.
pub const PARTITIONS_DEFAULT: usize = 1024;

/// How far ahead of the receiver's clock a version's clock may be, in milliseconds. One from
/// further ahead is refused and counted: a wrong clock must not win for hours.
pub const CLOCK_AHEAD_MILLIS_MAX: u64 = 500;

/// One frame of a node that has not proved itself, in bytes: what it says has a fixed length.
pub const STRANGER_BYTES_MAX: usize = 256;

/// One frame of the other side's while this one proves itself, in bytes: it may say where every
/// partition is.
pub const GREETING_BYTES_MAX: usize = 128 * 1024;

/// Connections of other nodes to one shard that have not proved themselves yet.
pub const PEER_LINKS_STRANGE_MAX: usize = 256;

const _: () =
    assert!(GREETING_BYTES_MAX >= 6 * PARTITIONS_MAX + 64, "each run takes 6 bytes at most");
const _: () = assert!(KEY_BYTES_MAX <= u16::MAX as usize);
const _: () = assert!(OBJECT_TO_VALUE_RATIO * VALUE_BYTES_MAX <= u32::MAX as usize);
const _: () = assert!(2 * MSET_PAIRS_MAX <= ARGUMENTS_MAX);
const _: () = assert!(SIBLINGS_WARN < SIBLINGS_MAX);
const _: () = assert!(PARTITIONS_MAX <= SLOTS && SLOTS.is_power_of_two());
const _: () = assert!(PARTITIONS_DEFAULT.is_power_of_two());
const _: () = assert!(OUTPUT_BYTES_SOFT < OUTPUT_BYTES_MAX);
const _: () = assert!(ARGUMENTS_MAX <= u16::MAX as usize, "the parts of a request are counted so");
