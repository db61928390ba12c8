//! Several shards on one disk: whose an operation is can be told from its number.

use super::disk::Completion;
use crate::base::id::LogId;
use crate::base::id::Ticket;
use crate::storage::effect as disk;

/// The shard's number is in the bits from here on.
const TICKET_BITS: u32 = 48;

/// An effect of a shard, as the disk that it shares with others hears it.
pub(super) fn tagged(effect: disk::Effect, shard: usize) -> disk::Effect {
    use disk::Effect::*;
    let tag = |ticket: Ticket| Ticket::new(ticket.to_raw() | (shard as u64) << TICKET_BITS);
    match effect {
        Append { ticket, segment, offset, buffer } => {
            Append { ticket: tag(ticket), segment, offset, buffer }
        }
        Read { ticket, segment, offset, length } => {
            Read { ticket: tag(ticket), segment, offset, length }
        }
        Bulk { ticket, operation } => Bulk { ticket: tag(ticket), operation },
        other => other,
    }
}

/// What the disk says, and to which shard.
pub(super) fn untagged(completion: Completion) -> (usize, Completion) {
    let shard = |ticket: Ticket| (ticket.to_raw() >> TICKET_BITS) as usize;
    let bare = |ticket: Ticket| Ticket::new(ticket.to_raw() & ((1 << TICKET_BITS) - 1));
    match completion {
        Completion::Appended(ticket, result) => {
            (shard(ticket), Completion::Appended(bare(ticket), result))
        }
        Completion::Read(ticket, result) => (shard(ticket), Completion::Read(bare(ticket), result)),
        Completion::Bulk(ticket, result) => (shard(ticket), Completion::Bulk(bare(ticket), result)),
        Completion::Resident(segment, result) => {
            (shard_of(segment.log), Completion::Resident(segment, result))
        }
    }
}

/// The log of a shard.
pub(super) fn log_of(shard: usize) -> LogId {
    LogId::new(shard as u32 + 1)
}

fn shard_of(log: LogId) -> usize {
    log.to_raw() as usize - 1
}
