//! `CLUSTER` and `DYN.RING`, `DYN.MEMBERS`: who serves what, in Redis Cluster's words.
//!
//! Each core's own port stands for a node of Redis Cluster, so that a stock cluster client connects
//! to the core that owns a key and no core carries a request to another.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::ops::RangeInclusive;

use crate::base::id::PartitionId;
use crate::base::id::ShardId;
use crate::protocol::shard::keeper::Keeper;
use crate::protocol::shard::settings::NodeSettings;
use crate::protocol::wire::Protocol;
use crate::protocol::wire::command::NodeCommand;
use crate::protocol::wire::reply;

/// Appends the answer to a command that says who serves what.
///
/// # Panics
///
/// If the command is none of those.
pub(super) fn answer(
    keeper: &Keeper,
    protocol: Protocol,
    command: &NodeCommand<'_>,
    out: &mut Vec<u8>,
) {
    let node = &*keeper.node;
    match command {
        NodeCommand::ClusterSlots => slots(node, protocol, out),
        NodeCommand::ClusterShards => shards(node, protocol, out),
        NodeCommand::ClusterNodes => {
            reply::verbatim(out, protocol, nodes(node, keeper.shard).as_bytes());
        }
        NodeCommand::ClusterInfo => reply::verbatim(out, protocol, info(node).as_bytes()),
        NodeCommand::ClusterMyId => reply::bulk(out, core_id(node, keeper.shard).as_bytes()),
        NodeCommand::Ring => ring(node, protocol, out),
        NodeCommand::Members => members(node, protocol, out),
        _ => unreachable!("not about who serves what: {command:?}"),
    }
}

/// Runs of slots that one core owns, in order.
fn ranges(node: &NodeSettings) -> Vec<(RangeInclusive<u16>, ShardId)> {
    let mut ranges: Vec<(RangeInclusive<u16>, ShardId)> = Vec::new();
    for partition in 0..node.partitions.count() {
        let partition = PartitionId::new(partition);
        let (slots, owner) = (node.partitions.slots(partition), node.owner(partition));
        match ranges.last_mut() {
            Some((run, last)) if *last == owner => *run = *run.start()..=slots.end - 1,
            _ => ranges.push((slots.start..=slots.end - 1, owner)),
        }
    }
    ranges
}

/// A core as a node of Redis Cluster: the node's id with the core's number at its end.
fn core_id(node: &NodeSettings, shard: ShardId) -> String {
    format!("{}{:04x}", &node.id[..36], shard.to_raw())
}

fn address(node: &NodeSettings, shard: ShardId) -> SocketAddr {
    node.core_addresses[shard.to_raw() as usize]
}

fn slots(node: &NodeSettings, protocol: Protocol, out: &mut Vec<u8>) {
    let ranges = ranges(node);
    reply::array(out, ranges.len());
    for (slots, shard) in ranges {
        let address = address(node, shard);
        reply::array(out, 3);
        reply::integer(out, i64::from(*slots.start()));
        reply::integer(out, i64::from(*slots.end()));
        reply::array(out, 4);
        reply::bulk(out, address.ip().to_string().as_bytes());
        reply::integer(out, i64::from(address.port()));
        reply::bulk(out, core_id(node, shard).as_bytes());
        reply::map(out, protocol, 0);
    }
}

fn shards(node: &NodeSettings, protocol: Protocol, out: &mut Vec<u8>) {
    let ranges = ranges(node);
    reply::array(out, node.shards() as usize);
    for shard in (0..node.shards()).map(ShardId::new) {
        let own: Vec<&RangeInclusive<u16>> =
            ranges.iter().filter(|(_, owner)| *owner == shard).map(|(slots, _)| slots).collect();
        reply::map(out, protocol, 2);
        reply::bulk(out, b"slots");
        reply::array(out, 2 * own.len());
        for slots in own {
            reply::integer(out, i64::from(*slots.start()));
            reply::integer(out, i64::from(*slots.end()));
        }
        reply::bulk(out, b"nodes");
        reply::array(out, 1);
        shard_node(node, shard, protocol, out);
    }
}

fn shard_node(node: &NodeSettings, shard: ShardId, protocol: Protocol, out: &mut Vec<u8>) {
    let address = address(node, shard);
    let ip = address.ip().to_string();
    reply::map(out, protocol, 7);
    reply::bulk(out, b"id");
    reply::bulk(out, core_id(node, shard).as_bytes());
    reply::bulk(out, b"port");
    reply::integer(out, i64::from(address.port()));
    for name in [&b"ip"[..], b"endpoint"] {
        reply::bulk(out, name);
        reply::bulk(out, ip.as_bytes());
    }
    reply::bulk(out, b"role");
    reply::bulk(out, b"master");
    reply::bulk(out, b"replication-offset");
    reply::integer(out, 0);
    reply::bulk(out, b"health");
    reply::bulk(out, b"online");
}

fn nodes(node: &NodeSettings, own: ShardId) -> String {
    let mut text = String::new();
    let ranges = ranges(node);
    for shard in (0..node.shards()).map(ShardId::new) {
        let (id, address) = (core_id(node, shard), address(node, shard));
        let myself = if shard == own { "myself,master" } else { "master" };
        let bus = node.client_address.port().saturating_add(2);
        let _ = write!(text, "{id} {address}@{bus} {myself} - 0 0 1 connected");
        for (slots, _) in ranges.iter().filter(|(_, owner)| *owner == shard) {
            let _ = match slots.start() == slots.end() {
                true => write!(text, " {}", slots.start()),
                false => write!(text, " {}-{}", slots.start(), slots.end()),
            };
        }
        text.push('\n');
    }
    text
}

fn info(node: &NodeSettings) -> String {
    let shards = node.shards();
    format!(
        "cluster_state:ok\r\ncluster_slots_assigned:16384\r\ncluster_slots_ok:16384\r\n\
         cluster_slots_pfail:0\r\ncluster_slots_fail:0\r\ncluster_known_nodes:{shards}\r\n\
         cluster_size:{shards}\r\ncluster_current_epoch:1\r\ncluster_my_epoch:1\r\n\
         cluster_stats_messages_sent:0\r\ncluster_stats_messages_received:0\r\n\
         total_cluster_links_buffer_limit_exceeded:0\r\n"
    )
}

fn ring(node: &NodeSettings, protocol: Protocol, out: &mut Vec<u8>) {
    reply::map(out, protocol, 3);
    reply::bulk(out, b"partitions");
    reply::integer(out, i64::from(node.partitions.count()));
    reply::bulk(out, b"members");
    reply::integer(out, 1);
    reply::bulk(out, b"slots");
    let ranges = ranges(node);
    reply::array(out, ranges.len());
    for (slots, shard) in ranges {
        reply::array(out, 4);
        reply::integer(out, i64::from(*slots.start()));
        reply::integer(out, i64::from(*slots.end()));
        reply::bulk(out, node.name.as_bytes());
        reply::integer(out, i64::from(shard.to_raw()));
    }
}

fn members(node: &NodeSettings, protocol: Protocol, out: &mut Vec<u8>) {
    reply::array(out, 1);
    reply::map(out, protocol, 5);
    for (name, value) in [
        ("name", node.name.clone()),
        ("id", node.id.clone()),
        ("address", node.client_address.to_string()),
        ("state", "alive".to_owned()),
    ] {
        reply::bulk(out, name.as_bytes());
        reply::bulk(out, value.as_bytes());
    }
    reply::bulk(out, b"shards");
    reply::integer(out, i64::from(node.shards()));
}
