//! Every input that the fuzz targets keep, replayed: what was found once is never
//! found again.

use std::{fs, path::Path};

#[path = "../../fuzz/src/targets.rs"]
#[allow(
    clippy::expect_used,
    unreachable_pub,
    reason = "the fuzzers use it, too; a target that panics has found something"
)]
mod targets;

#[test]
fn each_input_of_the_corpora_passes_its_target() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus");
    type Target = fn(&[u8]);
    let all: [(&str, Target); 4] = [
        ("claims", targets::claims),
        ("compact", targets::compact),
        ("jwks", targets::jwks),
        ("target", targets::target),
    ];
    for (name, target) in all {
        let mut count = 0;
        for entry in fs::read_dir(folder.join(name)).unwrap() {
            target(&fs::read(entry.unwrap().path()).unwrap());
            count += 1;
        }
        println!("{name}: {count} inputs replayed");
        assert!(count > 0, "{name} has no corpus");
    }
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig { failure_persistence: None, ..Default::default() })]

    #[test]
    fn a_path_of_escapes_hides_no_separator_and_no_dots(path in "(/|%|25|2[eEfF3]|3[aAbBfF]|40|5[bBcC]|00|\\.|;|a|\\[|:|~){0,24}") {
        targets::target(format!("/{path}").as_bytes());
    }
}
