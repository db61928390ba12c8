//! Plain integers that a shard counts; drivers and `INFO` export them.

/// What happened on one shard since its start.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Counters {
    /// Connections accepted.
    pub connections: u64,
    /// Commands carried out, of this core's clients and of others'.
    pub commands: u64,
    /// Bytes received of clients.
    pub bytes_in: u64,
    /// Bytes sent to clients.
    pub bytes_out: u64,
    /// Reading commands that found a value.
    pub hits: u64,
    /// Reading commands that found none.
    pub misses: u64,
    /// Versions written.
    pub puts: u64,
    /// Writes without a context where siblings or a value were: they make siblings.
    pub blind_writes: u64,
    /// Objects that were written with so many siblings that somebody should look.
    pub sibling_warnings: u64,
    /// Requests that waited for a read from the disk.
    pub parked_reads: u64,
    /// Requests that waited for room in the log.
    pub parked_writes: u64,
    /// Requests answered `-TIMEOUT`.
    pub timeouts: u64,
    /// Requests refused for overload or lack of memory.
    pub refused: u64,
    /// Requests carried to the core that owns their key.
    pub forwarded: u64,
    /// Requests that met a damaged record.
    pub damaged: u64,
    /// Tombstones forgotten because nobody needs them.
    pub reaped: u64,
}
