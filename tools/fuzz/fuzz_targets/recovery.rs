//! A log whose files were altered must start, and tell what is missing. The laws, and what the bytes
//! mean, are in `stator::sim::storage::run_altered`.

#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    stator::sim::storage::run_altered(bytes);
});
