//! Requests that other nodes carry out: a node that holds no place of a key passes the command on
//! once, to the first that does and is heard of (Dynamo, section 4.5).
//!
//! # What is told when the other node is lost
//!
//! What was asked of it has an unknown outcome. A get is asked again, of whoever is next, as long as its
//! client waits; a write never is, for it may have been carried out (`-UNKNOWN`).
//!
//! # Order
//!
//! What one client asks of one key arrives in its order: as long as something of a partition is under
//! way on a link, everything of that partition goes there, also if there is a shorter way by now. What
//! was lost or late has an unknown outcome: it may yet be carried out, after what is asked later.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::base::id::LinkId;
use crate::base::id::PartitionId;
use crate::base::id::ShardId;
use crate::base::outbox::Outbox;
use crate::base::time::Duration;
use crate::base::time::Instant;
use crate::base::time::Now;
use crate::protocol::coordinator::RequestError;
use crate::protocol::peers;
use crate::protocol::peers::Peers;
use crate::protocol::ring::slot_of;
use crate::protocol::session::Outcome;
use crate::protocol::shard::Effect;
use crate::protocol::shard::Shard;
use crate::protocol::shard::keeper::Keeper;
use crate::protocol::shard::mesh;
use crate::protocol::shard::mesh::Kind;
use crate::protocol::shard::of_peer;
use crate::protocol::shard::parked::Asked;
use crate::protocol::shard::parked::Origin;
use crate::protocol::wire::command::KeyCommand;
use crate::protocol::wire::key_command;
use crate::protocol::wire::peer::Forward;
use crate::protocol::wire::peer::Reply;
use crate::protocol::wire::peer::Word;
use crate::storage::effect::Resident;

/// A request that was passed on.
#[derive(Debug)]
pub(super) struct Passed {
    pub(super) asked: Asked,
    partition: PartitionId,
    /// By `wire::key_command`, of a request that may be asked again.
    pub(super) command: Option<Box<[u8]>>,
}

impl Passed {
    fn bytes(&self) -> usize {
        size_of::<Self>() + self.command.as_ref().map_or(0, |command| command.len())
    }
}

/// The other nodes, and what was asked of them.
#[derive(Debug, Default)]
pub(super) struct Abroad {
    pub(super) peers: Option<Peers>,
    /// What the room of peers asks for in this event.
    pub(super) out: Outbox<peers::Effect>,
    passed: BTreeMap<(LinkId, u64), Passed>,
    /// The link on which requests of a partition are under way, and how many.
    in_use: BTreeMap<PartitionId, (LinkId, usize)>,
    last_number: u64,
    bytes: usize,
}

impl Abroad {
    /// The other nodes of a cluster, of whom nothing is heard until the log is open.
    pub(super) fn new(
        settings: Option<&Arc<peers::Settings>>,
        shard: ShardId,
        entropy: u64,
    ) -> Self {
        let peers = settings.map(|settings| Peers::new(Arc::clone(settings), shard, entropy));
        Self { peers, ..Self::default() }
    }

    /// Bytes that requests hold which were passed on.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.passed.len()
    }

    /// When something is due.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.peers.as_ref().and_then(Peers::deadline)
    }

    fn remember(&mut self, link: LinkId, number: u64, passed: Passed) {
        self.bytes += passed.bytes();
        let in_use = self.in_use.entry(passed.partition).or_insert((link, 0));
        *in_use = (link, in_use.1 + 1);
        self.passed.insert((link, number), passed);
    }

    /// The request that an answer on this link belongs to, if anybody still waits for it.
    pub(super) fn answered(&mut self, link: LinkId, number: u64) -> Option<Passed> {
        let passed = self.passed.remove(&(link, number))?;
        self.bytes -= passed.bytes();
        let in_use = self.in_use.get_mut(&passed.partition).expect("it was counted");
        in_use.1 -= 1;
        if in_use.1 == 0 {
            self.in_use.remove(&passed.partition);
        }
        Some(passed)
    }

    /// Nothing more comes on this link: what was asked on it.
    pub(super) fn lost(&mut self, link: LinkId) -> Vec<Passed> {
        let on_it = self.passed.range((link, 0)..=(link, u64::MAX)).map(|(name, _)| *name);
        let on_it: Vec<(LinkId, u64)> = on_it.collect();
        on_it.into_iter().filter_map(|(link, number)| self.answered(link, number)).collect()
    }

    /// Requests whose answer did not come in time.
    pub(super) fn late(&mut self, now: Instant) -> Vec<Passed> {
        let late = self.passed.iter().filter(|(_, passed)| passed.asked.deadline <= now);
        let late: Vec<(LinkId, u64)> = late.map(|(name, _)| *name).collect();
        late.into_iter().filter_map(|(link, number)| self.answered(link, number)).collect()
    }

    /// Says what became of another node's request.
    pub(super) fn reply(&mut self, link: LinkId, number: u64, reply: &[u8]) {
        let Some(peers) = &mut self.peers else { return };
        // If the link is gone, so is whoever asked.
        let _ = peers.answer(link, Word::Reply, &mut self.out, |out| {
            Reply { number, reply }.encode_into(out);
        });
    }
}

impl Keeper {
    /// Whether a key's partition has a place on this node.
    pub(super) fn holds(&self, partition: PartitionId) -> bool {
        self.node.cluster.holds(partition)
    }

    /// Passes a command on to the first node that holds its key and is heard of. Either appends its
    /// reply, or parks it.
    pub(super) fn pass_on(
        &mut self,
        now: Now,
        asked: Asked,
        command: &KeyCommand<'_>,
        out: &mut Vec<u8>,
    ) -> Outcome {
        if self.memory_bytes() > self.node.memory_bytes_max {
            return self.refuse(RequestError::OutOfMemory, out);
        }
        let partition = self.node.partitions.of(slot_of(command.key));
        let Some(link) = self.link_to_holder(now, partition) else {
            return self.refuse(RequestError::NoQuorum { had: 0, needed: 1 }, out);
        };
        self.abroad.last_number += 1;
        let number = self.abroad.last_number;
        let patience = asked.deadline.since(now.monotonic).as_millis();
        let forward = Forward {
            number,
            patience_millis: u32::try_from(patience).unwrap_or(u32::MAX).max(1),
            protocol: asked.protocol,
            command: *command,
        };
        let peers = self.abroad.peers.as_mut().expect("there is a link");
        let is_said = peers.ask(link, Word::Forward, &mut self.abroad.out, |out| {
            forward.encode_into(out);
        });
        if !is_said {
            return self.refuse(RequestError::Busy, out);
        }
        let again = (!command.operation.is_write()).then(|| {
            let mut bytes = Vec::new();
            key_command::encode(command, &mut bytes);
            bytes.into()
        });
        self.counters.forwarded += 1;
        self.abroad.remember(link, number, Passed { asked, partition, command: again });
        Outcome::Parked
    }

    fn link_to_holder(&mut self, now: Now, partition: PartitionId) -> Option<LinkId> {
        let peers = self.abroad.peers.as_mut()?;
        if let Some((link, _)) = self.abroad.in_use.get(&partition)
            && peers.is_ready(*link)
        {
            return Some(*link);
        }
        let primaries = self.node.cluster.preferences().table().primaries(partition);
        let mut alive = primaries.filter(|member| self.node.cluster.is_other(member.id));
        alive.find_map(|member| match peers.is_up(member.id) {
            true => peers.link_to(now.monotonic, member.id, partition, &mut self.abroad.out),
            false => None,
        })
    }

    /// What is told of a request whose node was lost before it answered: the reply, or that it was
    /// asked again.
    pub(super) fn ask_again(&mut self, now: Now, passed: Passed, out: &mut Vec<u8>) -> Outcome {
        match passed.command {
            Some(command) if now.monotonic < passed.asked.deadline => {
                let command = key_command::decode(&command).expect("this process wrote it");
                self.pass_on(now, passed.asked, &command, out)
            }
            _ => self.refuse(RequestError::Unknown { had: 0, needed: 1 }, out),
        }
    }
}

impl Shard {
    /// Lets the room of peers do something, if there are any.
    pub(super) fn with_peers(
        &mut self,
        now: Now,
        act: impl FnOnce(&mut peers::Peers, Instant, &mut Outbox<peers::Effect>),
    ) {
        let abroad = &mut self.keeper.abroad;
        if let Some(peers) = &mut abroad.peers {
            act(peers, now.monotonic, &mut abroad.out);
        }
    }

    pub(super) fn hear_peer(
        &mut self,
        now: Now,
        link: LinkId,
        bytes: &[u8],
        resident: &dyn Resident,
        out: &mut Outbox<Effect>,
    ) {
        let Some(peers) = &mut self.keeper.abroad.peers else { return };
        let mut input = peers.received(now.monotonic, link, bytes);
        loop {
            let abroad = &mut self.keeper.abroad;
            let peers = abroad.peers.as_mut().expect("they were just heard");
            let heard = peers.next_word(now.monotonic, &mut input, &mut abroad.out);
            let Some((link, word, body)) = heard else { return };
            let is_right = match word {
                Word::Forward => self.serve_other_node(now, link, body, resident, out),
                Word::Reply => self.hear_reply(now, link, body, resident, out),
                _ => false,
            };
            if !is_right {
                self.with_peers(now, |peers, _, out| peers.is_nonsense(link, out));
            }
        }
    }

    /// Another node passed a command on. Whether it may.
    fn serve_other_node(
        &mut self,
        now: Now,
        link: LinkId,
        body: &[u8],
        resident: &dyn Resident,
        out: &mut Outbox<Effect>,
    ) -> bool {
        let Ok(forward) = Forward::decode(body) else { return false };
        let partition = self.keeper.node.partitions.of(slot_of(forward.command.key));
        if !self.keeper.holds(partition) {
            return false; // it has the same table, and nothing is passed on twice
        }
        let asked = asked_by_peer(now, link, &forward);
        let peers = self.keeper.abroad.peers.as_ref().expect("they were just heard");
        let refusal = match (self.keeper.stopping, peers.is_full(link)) {
            (true, _) => Some(RequestError::Stopping),
            (_, true) => Some(RequestError::Busy),
            _ => None,
        };
        if let Some(refusal) = refusal {
            self.answer_error(now, asked.origin, refusal, resident, out);
            return true;
        }
        let owner = self.keeper.node.owner(partition);
        if owner == self.keeper.shard {
            self.serve_other_core(now, asked, &forward.command, resident, out);
            return true;
        }
        let queue = &mut self.keeper.mesh[owner.to_raw() as usize];
        let request = of_peer(link, forward.number);
        mesh::put(queue, Kind::PeerRequest, request, forward.protocol, |out| {
            mesh::put_deadline(asked.deadline, out);
            key_command::encode(&forward.command, out);
        });
        true
    }

    /// Another node answers. Whether it may.
    fn hear_reply(
        &mut self,
        now: Now,
        link: LinkId,
        body: &[u8],
        resident: &dyn Resident,
        out: &mut Outbox<Effect>,
    ) -> bool {
        let Ok(reply) = Reply::decode(body) else { return false };
        if let Some(passed) = self.keeper.abroad.answered(link, reply.number) {
            self.answer_origin(now, passed.asked.origin, reply.reply, resident, out);
        }
        true
    }

    pub(super) fn hear_of_peers(
        &mut self,
        now: Now,
        resident: &dyn Resident,
        out: &mut Outbox<Effect>,
    ) {
        while let Some(peers) = &mut self.keeper.abroad.peers
            && let Some(notice) = peers.next_notice()
        {
            let peers::Notice::Lost(link) = notice else { continue };
            // An answer may let out what its session held back, of the same key: only after all of them.
            let mut replies = Vec::new();
            for passed in self.keeper.abroad.lost(link) {
                let (origin, mut reply) = (passed.asked.origin, Vec::new());
                if self.keeper.ask_again(now, passed, &mut reply) == Outcome::Done {
                    replies.push((origin, reply));
                }
            }
            for (origin, reply) in replies {
                self.answer_origin(now, origin, &reply, resident, out);
            }
        }
    }

    pub(super) fn hand_over_to_peers(&mut self, out: &mut Outbox<Effect>) {
        let abroad = &mut self.keeper.abroad;
        let (effects, arena) = abroad.out.take();
        for effect in effects {
            let effect = match effect {
                peers::Effect::Connect { link, member, shard } => {
                    Effect::PeerConnect { link, member, shard }
                }
                peers::Effect::Send { link, bytes } => {
                    let start = out.arena.len();
                    out.arena.extend_from_slice(&arena[bytes]);
                    Effect::PeerSend { link, bytes: start..out.arena.len() }
                }
                peers::Effect::Close { link } => Effect::PeerClose { link },
            };
            out.push(effect);
        }
        abroad.out.clear();
    }
}

/// A command that another node passed on, with whom to answer and until when.
pub(super) fn asked_by_peer(now: Now, link: LinkId, forward: &Forward<'_>) -> Asked {
    let patience = Duration::from_millis(u64::from(forward.patience_millis));
    let origin = Origin::Peer(link, forward.number);
    Asked { origin, protocol: forward.protocol, deadline: now.monotonic + patience }
}
