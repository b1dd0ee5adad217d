//! `min_seq_no`: a search that sees the writes it comes after, whoever made them.

use ringdex_engine::ids::SeqNo;

use crate::backend::{LocalFuture, SharedBackend};
use crate::coordinate::join;
use crate::coordinate::search::Target;
use crate::error::{ApiError, ApiResult};
use crate::shard::message::{ShardRequest, ShardResponse};

/// How long a search without a timeout waits.
const WAIT_MS: i64 = 30_000;

/// What each shard has to show: `17` where one shard is searched, else `0:17,3:4`, by the shards' numbers.
fn parse(text: &str, shards: &[u32]) -> ApiResult<Vec<(u32, SeqNo)>> {
    let bad = |why: &str| {
        ApiError::illegal_argument(format!(
            "Failed to parse [min_seq_no] with value [{text}]: {why}; like [17] for one shard, or [0:17,3:4] by shard"
        ))
    };
    let number = |text: &str| match text.parse::<i64>() {
        Ok(n) if n >= 0 => Ok(SeqNo(n)),
        _ => Err(bad(&format!("[{text}] is no sequence number"))),
    };
    if !text.contains(':') {
        return match shards {
            [shard] => Ok(vec![(*shard, number(text)?)]),
            _ => Err(bad(&format!("the search is of [{}] shards", shards.len()))),
        };
    }
    text.split(',')
        .map(|part| {
            let (shard, seq_no) = part.split_once(':').ok_or_else(|| bad(&format!("[{part}] names no shard")))?;
            let shard = shard.parse().map_err(|_| bad(&format!("[{shard}] is no shard's number")))?;
            if !shards.contains(&shard) {
                return Err(bad(&format!("shard [{shard}] is not searched")));
            }
            Ok((shard, number(seq_no)?))
        })
        .collect()
}

/// Waits until the shards of a search show what they are asked to.
///
/// # Errors
/// A value that does not fit the search; `timeout_exception` (status 503) of the first shard that took too long.
pub async fn until(backend: &SharedBackend, targets: &[Target], text: &str, deadline_ms: Option<i64>) -> ApiResult<()> {
    if targets.iter().any(|target| target.index.uuid != targets[0].index.uuid) {
        return Err(ApiError::illegal_argument("[min_seq_no] cannot be used when searching several indices"));
    }
    let shards: Vec<u32> = targets.iter().map(|target| target.shard).collect();
    let until_ms = deadline_ms.unwrap_or_else(|| backend.now_ms() + WAIT_MS);
    let waits: Vec<LocalFuture<'_, ApiResult<ShardResponse>>> = parse(text, &shards)?
        .into_iter()
        .filter_map(|(shard, seq_no)| {
            let target = targets.iter().find(|target| target.shard == shard)?;
            Some(backend.shard(&target.id(), ShardRequest::Visible { seq_no, until_ms }))
        })
        .collect();
    join::all(waits).await.into_iter().try_for_each(|answer| answer.map(drop))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_is_of_the_only_shard_and_pairs_name_theirs() {
        let parsed = |text, shards: &[u32]| {
            let pairs = parse(text, shards).map_err(|e| e.reason)?;
            Ok::<_, String>(pairs.into_iter().map(|(shard, seq_no)| (shard, seq_no.0)).collect::<Vec<_>>())
        };
        assert_eq!(parsed("17", &[3]), Ok(vec![(3, 17)]));
        assert_eq!(parsed("0:17,3:4", &[0, 1, 3]), Ok(vec![(0, 17), (3, 4)]));
        for (text, shards, want) in [
            ("17", &[0, 1][..], "the search is of [2] shards"),
            ("", &[0], "[] is no sequence number"),
            ("-1", &[0], "[-1] is no sequence number"),
            ("0:1,2", &[0, 2], "[2] names no shard"),
            ("x:1", &[0], "[x] is no shard's number"),
            ("5:1", &[0], "shard [5] is not searched"),
            ("0:", &[0], "[] is no sequence number"),
        ] {
            let error = parsed(text, shards).unwrap_err();
            assert!(error.contains(want), "{text}: {error}");
        }
    }
}
