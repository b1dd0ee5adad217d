//! Parameters of aggregations that put documents into buckets.

use ringdex_engine::search::aggs::resolve::{parse_ip, print_ip};
use ringdex_engine::search::aggs::{
    AggKind, Bounds, BucketOrder, FiltersRequest, IpRange, IpRangeRequest, OrderBy, Range, RangeRequest, TermSet,
    TermsRequest,
};
use serde_json::Value;

use super::{Params, bad, parsing, scalar, token};
use crate::dsl::DslResult;
use crate::dsl::query::parse_query;

/// `{"_count": "desc"}` or a list of such.
pub(super) fn order(p: &mut Params<'_>, default: BucketOrder) -> DslResult<Vec<BucketOrder>> {
    let one = |value: &Value| -> DslResult<BucketOrder> {
        let Some((key, direction)) = value.as_object().filter(|m| m.len() == 1).and_then(|m| m.iter().next()) else {
            return Err(parsing(format!("Must specify at least one field for [order]; got [{}]", token(value))));
        };
        let ascending = match direction.as_str().map(str::to_ascii_lowercase).as_deref() {
            Some("asc") => true,
            Some("desc") => false,
            _ => return Err(parsing(format!("Unknown order direction [{}]", direction.as_str().unwrap_or_default()))),
        };
        let by = match key.as_str() {
            "_count" => OrderBy::Count,
            "_key" | "_term" | "_time" => OrderBy::Key,
            path => OrderBy::Path(path.to_owned()),
        };
        Ok(BucketOrder { by, ascending })
    };
    Ok(match p.get("order") {
        None => vec![default],
        Some(Value::Array(list)) => list.iter().map(one).collect::<DslResult<_>>()?,
        Some(value) => vec![one(value)?],
    })
}

pub(super) fn by_key() -> BucketOrder {
    BucketOrder { by: OrderBy::Key, ascending: true }
}

pub(super) fn terms(p: &mut Params<'_>) -> DslResult<AggKind> {
    let name = p.name;
    let above_zero = |value: Option<i64>, what: &str| match value {
        None => Ok(None),
        Some(n) if n > 0 => Ok(Some(n as usize)),
        Some(n) => Err(bad(format!("[{what}] must be greater than 0. Found [{n}] in [{name}]"))),
    };
    let size = above_zero(p.whole("size")?, "size")?.unwrap_or(10);
    let shard_size = above_zero(p.whole("shard_size")?.filter(|&n| n != -1), "shardSize")?;
    let shard_min_doc_count = p.whole("shard_min_doc_count")?.unwrap_or(0).max(0) as u64;
    let by_count = BucketOrder { by: OrderBy::Count, ascending: false };
    let request = TermsRequest {
        size,
        shard_size,
        min_doc_count: p.min_doc_count(1)?,
        shard_min_doc_count,
        order: order(p, by_count)?,
        include: term_set(p, "include")?,
        exclude: term_set(p, "exclude")?,
        show_term_doc_count_error: p.flag("show_term_doc_count_error")?.unwrap_or(false),
        rare: None,
        source: p.source()?,
    };
    // How to compute is the engine's business.
    p.get("execution_hint");
    p.get("collect_mode");
    Ok(AggKind::Terms(request))
}

pub(super) fn rare_terms(p: &mut Params<'_>) -> DslResult<AggKind> {
    let most = p.whole("max_doc_count")?.unwrap_or(1);
    if most <= 0 {
        return Err(bad(format!("[max_doc_count] must be greater than 0. Found [{most}] in [{}]", p.name)));
    }
    if most > 100 {
        return Err(bad(format!("[max_doc_count] must be smaller than 100in [{}]", p.name)));
    }
    let precision = p.number("precision")?.unwrap_or(0.001);
    if precision < 0.00001 {
        return Err(bad("[precision] must be greater than 0.00001"));
    }
    Ok(AggKind::Terms(TermsRequest {
        size: usize::MAX,
        order: vec![BucketOrder { by: OrderBy::Count, ascending: true }],
        include: term_set(p, "include")?,
        exclude: term_set(p, "exclude")?,
        rare: Some(most as u64),
        ..TermsRequest::new(p.source()?)
    }))
}

fn term_set(p: &mut Params<'_>, key: &'static str) -> DslResult<Option<TermSet>> {
    Ok(Some(match p.get(key) {
        None => return Ok(None),
        Some(Value::String(pattern)) => TermSet::Regex(pattern.clone()),
        Some(Value::Array(list)) => {
            TermSet::Values(list.iter().map(|v| scalar(v).ok_or_else(|| p.wrong(key, v))).collect::<DslResult<_>>()?)
        }
        Some(Value::Object(map)) if key == "include" => {
            let part = |name: &str| {
                map.get(name)
                    .and_then(Value::as_u64)
                    .and_then(|n| u32::try_from(n).ok())
                    .ok_or_else(|| bad(format!("Missing [{name}] parameter for partition-based include")))
            };
            let (partition, partition_count) = (part("partition")?, part("num_partitions")?);
            if partition >= partition_count {
                return Err(bad("partition must be less than num_partitions in partition-based include"));
            }
            TermSet::Partition { partition, partition_count }
        }
        Some(value) => return Err(p.wrong(key, value)),
    }))
}

pub(super) fn filters(p: &mut Params<'_>) -> DslResult<AggKind> {
    let empty = || bad("[filters] cannot be empty");
    let (filters, keyed) = match p.get("filters") {
        Some(Value::Object(map)) => {
            let named = map.iter().map(|(name, q)| Ok((name.clone(), parse_query(q)?)));
            (named.collect::<DslResult<Vec<_>>>()?, true)
        }
        Some(Value::Array(list)) => {
            let anonymous = list.iter().map(|q| Ok((String::new(), parse_query(q)?)));
            (anonymous.collect::<DslResult<Vec<_>>>()?, false)
        }
        None => return Err(empty()),
        Some(value) => return Err(p.wrong("filters", value)),
    };
    if filters.is_empty() {
        return Err(empty());
    }
    let wanted = p.flag("other_bucket")?;
    let key = p.text("other_bucket_key")?;
    // A name asks for the bucket, unless it is refused outright.
    let other = wanted.unwrap_or(key.is_some());
    let other_bucket_key = other.then(|| key.unwrap_or_else(|| "_other_".to_owned()));
    Ok(AggKind::Filters(FiltersRequest { filters, keyed, other_bucket_key }))
}

pub(super) fn ranges(p: &mut Params<'_>, date: bool) -> DslResult<AggKind> {
    let name = p.name;
    let list = p.list("ranges")?.filter(|l| !l.is_empty());
    let list = list.ok_or_else(|| bad(format!("No [ranges] specified for the [{name}] aggregation")))?;
    let mut ranges = Vec::with_capacity(list.len());
    for range in list {
        let Some(map) = range.as_object() else { return Err(p.wrong("ranges", range)) };
        let mut r = Params { name, kind: "range", map, known: Vec::new() };
        ranges.push(Range { key: r.text("key")?, from: r.scalar("from")?, to: r.scalar("to")? });
        r.finish()?;
    }
    let keyed = p.flag("keyed")?.unwrap_or(false);
    Ok(AggKind::Range(RangeRequest { source: p.source()?, ranges, keyed, date }))
}

pub(super) fn ip_ranges(p: &mut Params<'_>) -> DslResult<AggKind> {
    let name = p.name;
    let list = p.list("ranges")?.filter(|l| !l.is_empty());
    let list = list.ok_or_else(|| bad(format!("No [ranges] specified for the [{name}] aggregation")))?;
    let mut ranges = Vec::with_capacity(list.len());
    for range in list {
        let Some(map) = range.as_object() else { return Err(p.wrong("ranges", range)) };
        let mut r = Params { name, kind: "ip_range", map, known: Vec::new() };
        let key = r.text("key")?;
        let ip = |text: Option<String>| match text {
            None => Ok(None),
            Some(text) => {
                parse_ip(&text).map(Some).ok_or_else(|| bad(format!("'{text}' is not an IP string literal.")))
            }
        };
        let (from, to) = (ip(r.text("from")?)?, ip(r.text("to")?)?);
        let range = match r.text("mask")? {
            None => IpRange { key, from, to },
            Some(mask) => {
                if from.is_some() || to.is_some() {
                    return Err(bad("[mask] cannot be combined with [from] or [to]"));
                }
                let (from, to) = mask_ends(&mask)?;
                IpRange { key: Some(key.unwrap_or(mask)), from, to }
            }
        };
        r.finish()?;
        ranges.push(range);
    }
    let keyed = p.flag("keyed")?.unwrap_or(false);
    Ok(AggKind::IpRange(IpRangeRequest { source: p.source()?, ranges, keyed }))
}

type IpEnds = (Option<[u8; 16]>, Option<[u8; 16]>);

/// First address of a CIDR block, and the first beyond; open where the block reaches the end of all addresses.
pub(super) fn mask_ends(mask: &str) -> DslResult<IpEnds> {
    let wrong = || bad(format!("Expected [ip/prefix] but was [{mask}]"));
    let (text, length) = mask.split_once('/').ok_or_else(wrong)?;
    let address = parse_ip(text).ok_or_else(|| bad(format!("'{text}' is not an IP string literal.")))?;
    let length: u32 = length.parse().map_err(|_| wrong())?;
    let v4 = !text.contains(':');
    let bits = if v4 { length.checked_add(96) } else { Some(length) }.filter(|&b| b <= 128).ok_or_else(wrong)?;
    let host = u128::MAX.checked_shr(bits).unwrap_or(0);
    let first = u128::from_be_bytes(address) & !host;
    let beyond = (first | host).checked_add(1).map(u128::to_be_bytes);
    let from = Some(first.to_be_bytes()).filter(|_| first != 0);
    debug_assert!(from.is_none_or(|f| !print_ip(f).is_empty()));
    Ok((from, beyond))
}

pub(super) fn bounds<T>(
    p: &mut Params<'_>,
    key: &'static str,
    read: impl Fn(&Value) -> Option<T>,
) -> DslResult<Option<Bounds<T>>> {
    let Some(value) = p.get(key) else { return Ok(None) };
    let Some(map) = value.as_object() else { return Err(p.wrong(key, value)) };
    let end = |name: &str| match map.get(name).filter(|v| !v.is_null()) {
        None => Ok(None),
        Some(v) => read(v).map(Some).ok_or_else(|| p.wrong(name, v)),
    };
    Ok(Some(Bounds { min: end("min")?, max: end("max")? }))
}
