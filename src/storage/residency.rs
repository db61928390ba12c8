//! Which complete segments are read from memory: as many as a budget of bytes allows, those that are
//! read most.
//!
//! What was just written is in memory already, and stays there as it is: reading it back from the
//! disk, to map it, would cost more than writing it did, and each page of a map is slow when it is
//! touched first. A map serves what a start finds, and segments of many short batches, whose memory
//! is not what their bytes are. Memory that is not needed for segments is kept for batches to come,
//! within the same budget: fresh memory is as slow.

use crate::base::id::SegmentId;
use crate::base::outbox::Outbox;
use crate::storage::Store;
use crate::storage::effect::Effect;
use crate::storage::effect::Failure;
use crate::storage::location::SegmentSlot;
use crate::storage::segments::Residency;
use crate::storage::segments::Segment;
use crate::storage::segments::Stage;

/// An image is kept if it takes at most so much more memory than the file has bytes: each batch takes
/// a page more, and under load none is shorter than a few pages.
const KEPT_EXTRA_ONE_IN: u64 = 4;

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

    /// Complete segments leave the write buffer: they become resident as they are or as maps, or
    /// cold.
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

    /// Makes a segment resident if the budget has room, or a colder one can give way.
    pub(in crate::storage) fn make_resident(
        &mut self,
        slot: SegmentSlot,
        out: &mut Outbox<Effect>,
    ) {
        let segment = self.segments.get(slot);
        let file_bytes = u64::from(segment.file_bytes);
        let memory = segment.image.as_ref().map(|image| image.bytes() as u64);
        let most =
            (file_bytes + file_bytes / KEPT_EXTRA_ONE_IN).min(self.settings.resident_bytes_max);
        let kept = memory.filter(|memory| *memory <= most);
        let bytes = kept.unwrap_or(0).max(file_bytes);
        if bytes > self.settings.resident_bytes_max {
            return;
        }
        while self.resident_bytes() + bytes > self.settings.resident_bytes_max {
            let resident = self.segments.iter().filter(|(_, segment)| segment.is_resident());
            let coldest = resident.map(|(slot, segment)| (segment.take_hits(), slot)).min();
            let Some((_, coldest)) = coldest else { return };
            self.drop_resident(coldest, out);
        }
        self.commit.keep_spare_bytes(self.room_for_spares().saturating_sub(bytes));
        let segment = self.segments.get_mut(slot);
        if kept.is_some() {
            segment.residency = Residency::Kept;
        } else {
            segment.residency = Residency::Asked;
            out.push(Effect::MakeResident { segment: segment.id });
        }
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
        match std::mem::replace(&mut segment.residency, Residency::Cold) {
            Residency::Cold => {}
            Residency::Kept => self.drop_image(slot),
            Residency::Asked | Residency::Resident => {
                out.push(Effect::DropResident { segment: segment.id });
            }
        }
    }

    /// Its records are read elsewhere from now on, if at all.
    pub(in crate::storage) fn drop_image(&mut self, slot: SegmentSlot) {
        if let Some(image) = self.segments.get_mut(slot).image.take() {
            let room = self.room_for_spares();
            self.commit.keep_spares(image.into_buffers(), room);
        }
    }

    /// Bytes of the budget that no segment takes.
    fn room_for_spares(&self) -> u64 {
        self.settings.resident_bytes_max.saturating_sub(self.resident_bytes())
    }

    fn resident_bytes(&self) -> u64 {
        self.segments.iter().map(|(_, segment)| resident_bytes_of(segment)).sum()
    }
}

/// What a segment takes of the budget.
fn resident_bytes_of(segment: &Segment) -> u64 {
    let file_bytes = u64::from(segment.file_bytes);
    match (segment.residency, &segment.image) {
        (Residency::Cold, _) => 0,
        (_, Some(image)) => file_bytes.max(image.bytes() as u64),
        (_, None) => file_bytes,
    }
}
