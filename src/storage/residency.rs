//! Which complete segments are read from memory: as many as a budget of bytes allows, those that are
//! read most.

use crate::base::id::SegmentId;
use crate::base::outbox::Outbox;
use crate::storage::Store;
use crate::storage::effect::Effect;
use crate::storage::effect::Failure;
use crate::storage::location::SegmentSlot;
use crate::storage::segments::Residency;
use crate::storage::segments::Segment;
use crate::storage::segments::Stage;

impl Store {
    /// At a start: the newest segments become resident, as far as the budget goes.
    pub(in crate::storage) fn warm_up(&mut self, out: &mut Outbox<Effect>) {
        let slots: Vec<SegmentSlot> = self.segments.iter().map(|(slot, _)| slot).collect();
        for slot in slots.into_iter().rev() {
            let bytes = u64::from(self.segments.get(slot).file_bytes);
            if self.resident_bytes() + bytes <= self.settings.resident_bytes_max {
                self.make_resident(slot, out);
            }
        }
    }

    /// Complete segments leave the write buffer: they become resident, or cold.
    pub(in crate::storage) fn settle_images(&mut self, out: &mut Outbox<Effect>) {
        let settled = |segment: &Segment| {
            segment.stage == Stage::Indexed
                && segment.residency == Residency::Cold
                && segment.image.is_some()
        };
        while let Some(slot) = self.segments.find(settled) {
            self.make_resident(slot, out);
            if self.segments.get(slot).residency == Residency::Cold {
                self.drop_image(slot);
            }
        }
    }

    /// Asks for a segment to be resident if the budget has room, or a colder one can give way.
    pub(in crate::storage) fn make_resident(
        &mut self,
        slot: SegmentSlot,
        out: &mut Outbox<Effect>,
    ) {
        let bytes = u64::from(self.segments.get(slot).file_bytes);
        while self.resident_bytes() + bytes > self.settings.resident_bytes_max {
            let coldest = self
                .segments
                .iter()
                .filter(|(_, segment)| segment.residency == Residency::Resident)
                .map(|(slot, segment)| (segment.take_hits(), slot))
                .min();
            let Some((_, coldest)) = coldest else { return };
            self.drop_resident(coldest, out);
        }
        let segment = self.segments.get_mut(slot);
        segment.residency = Residency::Asked;
        out.push(Effect::MakeResident { segment: segment.id });
    }

    pub(in crate::storage) fn on_resident(
        &mut self,
        segment: SegmentId,
        result: Result<(), Failure>,
    ) {
        let Some(slot) = self.segments.slot(segment) else { return };
        let segment = self.segments.get_mut(slot);
        if segment.residency == Residency::Asked {
            segment.residency = if result.is_ok() { Residency::Resident } else { Residency::Cold };
            self.drop_image(slot);
        }
    }

    pub(in crate::storage) fn drop_resident(
        &mut self,
        slot: SegmentSlot,
        out: &mut Outbox<Effect>,
    ) {
        let segment = self.segments.get_mut(slot);
        if segment.residency != Residency::Cold {
            segment.residency = Residency::Cold;
            out.push(Effect::DropResident { segment: segment.id });
        }
    }

    /// Its records are read elsewhere from now on, if at all.
    pub(in crate::storage) fn drop_image(&mut self, slot: SegmentSlot) {
        if let Some(image) = self.segments.get_mut(slot).image.take() {
            self.commit.keep_spares(image.into_buffers());
        }
    }

    fn resident_bytes(&self) -> u64 {
        let resident = |segment: &Segment| segment.residency != Residency::Cold;
        self.segments
            .iter()
            .filter(|(_, segment)| resident(segment))
            .map(|(_, segment)| u64::from(segment.file_bytes))
            .sum()
    }
}
