//! What must hold between values, each of which is fine alone.

use super::CORE_PORT_OFFSET;
use super::Config;
use super::ConfigError;
use super::PEER_PORT_OFFSET;
use crate::base::aligned::PAGE_BYTES;
use crate::base::id::LogId;
use crate::base::limits;
use crate::storage::location;
use crate::storage::record;

/// What a stored value has besides its bytes: its clock and its dots. Far more than is usual.
const CLOCK_BYTES: usize = 64 * 1024;

/// The smallest file of a log that is worth its seal and its first page, in bytes.
const SEGMENT_BYTES_MIN: u64 = 256 * 1024;

/// Budgets of memory are at most this, in bytes: beyond it there is a digit too many.
const BUDGET_BYTES_MAX: u64 = 1 << 44;

pub(super) fn check(config: &Config) -> Result<(), ConfigError> {
    ports(config)?;
    exposure(config)?;
    sizes(config)?;
    budgets(config)?;
    if !config.partitions.is_power_of_two() {
        let reason = format!("{} is not a power of two", config.partitions);
        return Err(ConfigError::new("partitions", reason));
    }
    Ok(())
}

fn ports(config: &Config) -> Result<(), ConfigError> {
    let last_core = CORE_PORT_OFFSET + config.shard_count() - 1;
    let last = last_core.max(PEER_PORT_OFFSET);
    if config.listen.port().checked_add(last).is_none() {
        let reason = format!("{} leaves no room for the {last} ports after it", config.listen);
        return Err(ConfigError::new("listen", reason));
    }
    Ok(())
}

/// Whoever reaches the port for nodes and is believed can write anything.
fn exposure(config: &Config) -> Result<(), ConfigError> {
    let peer = config.peer_listen();
    if peer.ip().to_canonical().is_loopback() || config.cluster_secret.is_some() {
        return Ok(());
    }
    let reason = format!(
        "{peer} can be reached from other machines: set a cluster secret \
         (cluster_secret_file or STATOR_CLUSTER_SECRET), or keep it on 127.0.0.1"
    );
    Err(ConfigError::new("peer_listen", reason))
}

fn sizes(config: &Config) -> Result<(), ConfigError> {
    let value_range = 1..=limits::VALUE_BYTES_MAX as u64;
    if !value_range.contains(&config.value_bytes_max) {
        return Err(ConfigError::new("value_bytes_max", "is not from 1B to 64MiB"));
    }
    let page = PAGE_BYTES as u64;
    let most = u64::from(location::SEGMENT_BYTES_MAX / 2);
    if !(SEGMENT_BYTES_MIN..=most).contains(&config.segment_bytes)
        || !config.segment_bytes.is_multiple_of(page)
    {
        let reason = "is not from 256KiB to 128MiB in whole pages of 4KiB";
        return Err(ConfigError::new("segment_bytes", reason));
    }
    let value = config.value_bytes_max as usize + CLOCK_BYTES;
    let longest = record::record_length(limits::KEY_BYTES_MAX, value);
    if longest > config.storage(LogId::default()).record_bytes_max() {
        let reason = "has no room for the longest value (value_bytes_max) with its key and clock";
        return Err(ConfigError::new("segment_bytes", reason));
    }
    Ok(())
}

fn budgets(config: &Config) -> Result<(), ConfigError> {
    let value = config.value_bytes_max;
    let budgets = [
        ("resident_bytes", config.resident_bytes, 0),
        ("cache_bytes", config.cache_bytes, 0),
        ("unsynced_bytes", config.unsynced_bytes, 2 * value),
        ("client_bytes", config.client_bytes, 2 * limits::OBJECT_TO_VALUE_RATIO as u64 * value),
    ];
    for (name, bytes, least) in budgets {
        if bytes > BUDGET_BYTES_MAX {
            return Err(ConfigError::new(name, "is beyond 16384GiB"));
        }
        if bytes < least {
            let least = super::units::write_size(least);
            let reason = format!("is less than {least}, which the longest value needs");
            return Err(ConfigError::new(name, reason));
        }
    }
    Ok(())
}
