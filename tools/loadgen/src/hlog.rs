//! Histogram logs: one histogram of each kind for each second, in the interval log format
//! (version 2, deflated) that HdrHistogram's own tools read. Values are nanoseconds.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::Path;
use std::time::{Duration, SystemTime};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hdrhistogram::Histogram;
use hdrhistogram::serialization::interval_log::{
    IntervalLogIterator, IntervalLogWriterBuilder, LogEntry, Tag,
};
use hdrhistogram::serialization::{Deserializer, V2DeflateSerializer};

use crate::record::{Counts, Kind, empty_histogram};

/// A log that is being written.
pub struct Log {
    file: BufWriter<File>,
    serializer: V2DeflateSerializer,
}

/// A new log at `path`, in place of what is there.
pub fn create(path: &Path) -> Result<Log, String> {
    let file = File::create(path).map_err(|error| format!("{}: {error}", path.display()))?;
    Ok(Log { file: BufWriter::new(file), serializer: V2DeflateSerializer::new() })
}

impl Log {
    /// Writes the head: the measured time begins at `at`.
    pub fn begin(&mut self, at: SystemTime) -> Result<(), String> {
        IntervalLogWriterBuilder::new()
            .add_comment("[Logged with loadgen]")
            .add_comment("[Histogram log format version 1.3]")
            .with_start_time(at)
            .with_base_time(at)
            .begin_log_with(&mut self.file, &mut self.serializer)
            .map(drop)
            .map_err(failed)?;
        let columns = "\"StartTimestamp\",\"Interval_Length\",\"Interval_Max\",\
             \"Interval_Compressed_Histogram\"";
        writeln!(self.file, "{columns}").map_err(failed)
    }

    /// Writes what was counted in second `index`.
    pub fn second(&mut self, index: u64, counts: &Counts) -> Result<(), String> {
        let mut writer = IntervalLogWriterBuilder::new()
            .with_max_value_divisor(1.0)
            .begin_log_with(&mut self.file, &mut self.serializer)
            .map_err(failed)?;
        for kind in Kind::ALL {
            let histogram = counts.latencies(kind);
            if !histogram.is_empty() {
                let (start, length) = (Duration::from_secs(index), Duration::from_secs(1));
                let tag = Tag::new(kind.name());
                writer.write_histogram(histogram, start, length, tag).map_err(failed)?;
            }
        }
        Ok(())
    }

    /// Everything is on its way to the disk.
    pub fn finish(&mut self) -> Result<(), String> {
        self.file.flush().map_err(failed)
    }
}

/// All seconds of a log together, by kind.
pub fn read(path: &Path) -> Result<BTreeMap<String, Histogram<u64>>, String> {
    let text = fs::read(path).map_err(|error| format!("{}: {error}", path.display()))?;
    // The column names are no entry of the format; Java's reader skips them as well.
    let lines = text.split_inclusive(|&byte| byte == b'\n');
    let entries = lines.filter(|line| !line.starts_with(b"\"")).flatten().copied().collect();
    sum_by_tag(entries).map_err(|why| format!("{}: {why}", path.display()))
}

fn sum_by_tag(entries: Vec<u8>) -> Result<BTreeMap<String, Histogram<u64>>, String> {
    let mut sums: BTreeMap<String, Histogram<u64>> = BTreeMap::new();
    let mut deserializer = Deserializer::new();
    for entry in IntervalLogIterator::new(&entries) {
        let LogEntry::Interval(interval) = entry.map_err(|_| "not a histogram log".to_owned())?
        else {
            continue;
        };
        let encoded = STANDARD
            .decode(interval.encoded_histogram())
            .map_err(|error| format!("a histogram is not base64: {error}"))?;
        let histogram: Histogram<u64> = deserializer
            .deserialize(&mut encoded.as_slice())
            .map_err(|error| format!("a histogram is not understood: {error}"))?;
        let tag = interval.tag().map_or("", |tag| tag.as_str()).to_owned();
        let sum = sums.entry(tag).or_insert_with(|| {
            let mut histogram = empty_histogram();
            // Logs of other tools may have wider bounds.
            histogram.auto(true);
            histogram
        });
        sum.add(histogram).map_err(|error| format!("histograms do not add up: {error}"))?;
    }
    if sums.is_empty() { Err("no histogram in it".to_owned()) } else { Ok(sums) }
}

fn failed(error: impl std::fmt::Display) -> String {
    format!("writing the histogram log: {error}")
}
