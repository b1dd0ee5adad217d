//! Replays the fuzz corpus: every file as it is, and with some hundred mutations that a seed decides.

use std::path::{Path, PathBuf};

use ringdex_fuzz::BODIES;
use ringdex_fuzz::mutate::{Random, mutated};

fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz").join(name)
}

fn names(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display()));
    let mut names: Vec<String> =
        entries.map(|e| e.unwrap().file_name().into_string().unwrap().trim_end_matches(".rs").to_owned()).collect();
    names.sort();
    names
}

/// Mutations together cost what `budget` allows of inputs, shared by the files.
fn replay(name: &str, budget: usize) {
    let folder = folder("corpus").join(name);
    let files = names(&folder);
    let inputs: Vec<Vec<u8>> = files.iter().map(|f| std::fs::read(folder.join(f)).unwrap()).collect();
    assert!(!inputs.is_empty(), "no corpus");
    for (file, input) in files.iter().zip(&inputs) {
        eprintln!("{name}/{file}");
        ringdex_fuzz::run(name, input);
    }
    let mut random = Random(name.len() as u64);
    for round in 0..budget {
        let at = round % inputs.len();
        // Said before the run, so that what fails can be made again.
        let state = random.0;
        let input = mutated(&inputs[at], &inputs[random.below(inputs.len())], &mut random);
        let result = std::panic::catch_unwind(|| ringdex_fuzz::run(name, &input));
        if let Err(panic) = result {
            let kept = std::env::temp_dir().join(format!("ringdex-fuzz-{name}-{round}"));
            let _ = std::fs::write(&kept, &input);
            eprintln!("{name}/{}, round {round}, state {state:#x}; the input is in {}", files[at], kept.display());
            std::panic::resume_unwind(panic);
        }
    }
}

#[test]
#[ignore = "writes files"]
fn write_the_corpus_of_binary_formats() {
    ringdex_fuzz::seed::write_corpus();
}

#[test]
fn every_body_has_a_target_and_a_corpus_and_is_replayed() {
    let bodies: Vec<&str> = BODIES.iter().map(|(name, _)| *name).collect();
    assert_eq!(names(&folder("corpus")), bodies);
    assert_eq!(names(&folder("fuzz_targets")), bodies);
    assert_eq!(REPLAYED, bodies);
}

macro_rules! replays {
    ($($name:ident: $budget:expr,)*) => {
        const REPLAYED: &[&str] = &[$(stringify!($name)),*];
        $(#[test] fn $name() { replay(stringify!($name), $budget); })*
    };
}

replays! {
    bulk: 4000,
    columns: 1000,
    commit: 4000,
    coordination: 4000,
    dictionary: 500,
    differential: 40,
    live_docs: 4000,
    mapping: 2000,
    metastore: 2000,
    operation: 4000,
    postings: 1000,
    query_dsl: 4000,
    query_text: 1000,
    replication: 4000,
    rest: 2000,
    rest_text: 4000,
    segment: 1000,
    stored: 500,
    translog: 1000,
    wire_frame: 4000,
    wire_message: 4000,
}
