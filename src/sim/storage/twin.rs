//! A second start from the same bytes, with nothing going wrong: what else could one conclude?

use super::keys::Place;
use super::model::Answer;
use super::model::KeyIndex;
use super::model::Model;
use super::world::Looked;
use super::world::look;
use crate::base::outbox::Outbox;
use crate::base::time::Instant;
use crate::sim::coverage::Coverage;
use crate::sim::disk::Disk;
use crate::storage::Notice;
use crate::storage::Settings;
use crate::storage::Store;
use crate::storage::effect::Effect;

/// Events that a start or a read may take, at most.
const PATIENCE: u64 = 100_000;

pub(super) struct Twin<'a> {
    store: Store,
    disk: Disk,
    model: &'a Model,
    out: Outbox<Effect>,
    now: Instant,
    coverage: Coverage,
}

impl<'a> Twin<'a> {
    /// Starts a store on this disk.
    pub(super) fn start(settings: Settings, entropy: u64, disk: Disk, model: &'a Model) -> Self {
        let store = Store::new(settings, entropy);
        let (out, now, coverage) = (Outbox::default(), Instant::START, Coverage::default());
        let mut twin = Self { store, disk, model, out, now, coverage };
        twin.store.start(&mut twin.out);
        twin.run_until(|notice| matches!(notice, Notice::Started));
        twin
    }

    /// What it says of a key.
    pub(super) fn ask(&mut self, key: KeyIndex, place: Place<'_>) -> Answer {
        loop {
            let looked = look(&self.store, &self.disk, self.model, key, place, &mut self.coverage);
            match looked {
                Looked::Known(testimony, _) => return testimony.answer,
                Looked::Away(at) => {
                    let wanted = self.store.read(at, &mut self.out);
                    self.run_until(
                        |notice| matches!(notice, Notice::Fetched { ticket, .. } if *ticket == wanted),
                    );
                }
            }
        }
    }

    fn run_until(&mut self, is_awaited: impl Fn(&Notice) -> bool) {
        for _ in 0..PATIENCE {
            let effects: Vec<Effect> = self.out.drain().collect();
            self.out.clear();
            for effect in effects {
                self.disk.perform(self.now, effect);
            }
            while let Some(notice) = self.store.next_notice() {
                if is_awaited(&notice) {
                    return;
                }
            }
            if let Some(at) = self.disk.next_at() {
                self.now = self.now.max(at);
            }
            if let Some(completion) = self.disk.complete() {
                self.store.handle(self.now, completion.event(), &mut self.out);
            }
        }
        panic!("a second start from the same bytes came to nothing");
    }
}
