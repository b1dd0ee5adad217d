//! Runs over seeds, and runs that must fail.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use super::super::mutant::{Mutant, plant};
use super::{HARSH, MILD, Outcome, PATIENT, Profile, run};

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

/// All seeds of a profile; every fiftieth twice.
fn check(profile: Profile, seeds: u64) {
    if let Some(seed) = number("RINGDEX_SEED") {
        println!("{}: {:?}", profile.name, run(seed, profile, true, true));
        return;
    }
    let seeds = number("RINGDEX_SEEDS").unwrap_or(seeds);
    let first = number("RINGDEX_SEEDS_FROM").unwrap_or(0);
    let start = std::time::Instant::now();
    let mut sum = Outcome::default();
    for seed in first..first + seeds {
        let outcome = catch_unwind(AssertUnwindSafe(|| run(seed, profile, true, false))).unwrap_or_else(|panic| {
            eprintln!("seed {seed} of the profile {} fails; RINGDEX_SEED={seed} replays it", profile.name);
            resume_unwind(panic)
        });
        if seed % 50 == 0 {
            assert_eq!(outcome, run(seed, profile, true, false), "seed {seed} of {} has two outcomes", profile.name);
        }
        sum.messages += outcome.messages;
        sum.commits += outcome.commits;
        sum.terms += outcome.terms;
        sum.recovered_ms = sum.recovered_ms.max(outcome.recovered_ms);
    }
    let Outcome { messages, commits, terms, recovered_ms, .. } = sum;
    println!(
        "{}: {seeds} seeds, {commits} commits, {terms} terms, {messages} messages, recovered within {recovered_ms} ms, {:.1} s",
        profile.name,
        start.elapsed().as_secs_f64()
    );
}

#[test]
fn harsh_faults_break_no_invariant_and_all_recover() {
    check(HARSH, 100);
}

#[test]
fn mild_faults_break_no_invariant_and_all_recover() {
    check(MILD, 100);
}

#[test]
fn default_timeouts_recover_too() {
    check(PATIENT, 20);
}

/// What a run may fail with; anything else that a planted bug brings about does not count as finding it.
const INVARIANTS: &[&str] = &[
    "AcceptedIsDurable",
    "CommitHasQuorum",
    "CommitHasQuorumVsPreviousCommittedConfiguration",
    "CommittedValuesDescendantsFromCommittedValues",
    "DescendantRelationIsStrictlyOrdered",
    "LogMatching",
    "NewerOpsBasedOnOlderCommittedOps",
    "OneMasterPerTerm",
    "OneVotePerTerm",
    "Recovers",
    "Settles",
    "SingleNodeInvariant",
    "StaysSettled",
];

/// Where each planted bug was found last.
const FOUND: &[(Mutant, Profile, u64)] = &[
    (Mutant::NoSync, HARSH, 0),
    (Mutant::VoteForOlderState, HARSH, 32),
    (Mutant::PublicationOfOldTermAccepted, HARSH, 283),
    (Mutant::QuorumOnlyInNewConfiguration, HARSH, 2),
    (Mutant::NoJoinGuardAfterRestart, HARSH, 242),
    (Mutant::JoinCountedTwice, HARSH, 0),
    (Mutant::CommitBeforeQuorum, HARSH, 0),
    (Mutant::AckBeforePersisted, HARSH, 0),
    (Mutant::VersionNotIncreased, HARSH, 0),
    (Mutant::ReconfigureWhileReconfiguring, MILD, 309),
    (Mutant::ReconfigureWithoutJoins, HARSH, 3),
    (Mutant::StartJoinOfSameTerm, HARSH, 1),
    (Mutant::AnswerToOlderPublicationCounts, HARSH, 0),
    (Mutant::OlderVersionAccepted, HARSH, 0),
    (Mutant::PreVoteIgnoresLeader, HARSH, 9),
    (Mutant::OnlyVotersStand, HARSH, 3),
    (Mutant::AcceptedConfigTakenForCommitted, HARSH, 0),
];

/// Each is found within this many seeds.
const ENOUGH: u64 = 500;

/// The first of these seeds at which a planted bug breaks an invariant, and how.
fn found(mutant: Mutant, profile: Profile, seeds: impl IntoIterator<Item = u64>) -> Option<(u64, String)> {
    // By what the cluster does, rather than by the machine's own check, where that can tell.
    let checks_machines = matches!(mutant, Mutant::ReconfigureWithoutJoins | Mutant::JoinCountedTwice);
    plant(Some(mutant));
    let found = seeds.into_iter().find_map(|seed| {
        let panic = catch_unwind(|| run(seed, profile, checks_machines, false)).err()?;
        let text = panic.downcast_ref::<String>().cloned();
        let text = text.or_else(|| panic.downcast_ref::<&str>().map(|s| (*s).to_owned())).unwrap_or_default();
        let text = text.trim_start_matches("assertion `left == right` failed: ").to_owned();
        let named = text.split_once(':').is_some_and(|(name, _)| INVARIANTS.contains(&name));
        named.then_some((seed, text))
    });
    plant(None);
    found
}

/// Each bug is found in few seeds, by an invariant. The search begins where it ended last; with `RINGDEX_MUTANTS=all` at the
/// first seed, to fill the table above.
#[test]
fn planted_bugs_are_found() {
    let listed: Vec<Mutant> = FOUND.iter().map(|(mutant, _, _)| *mutant).collect();
    assert_eq!(listed, Mutant::ALL);
    let all = std::env::var("RINGDEX_MUTANTS").is_ok_and(|value| value == "all");
    let mut missed = Vec::new();
    for (mutant, profile, last) in FOUND {
        let first = if all { 0 } else { *last };
        match found(*mutant, *profile, (first..ENOUGH).chain(0..first)) {
            Some((seed, why)) => {
                let why: String = why.chars().take(100).collect();
                println!("{mutant:?}: seed {seed} of {}: {why}", profile.name);
            }
            None => missed.push(mutant),
        }
    }
    assert!(missed.is_empty(), "not found: {missed:?}");
}
