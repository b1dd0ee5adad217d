//! What a task does, in a line, from the path and the body of its request.

use super::Action;

/// Index names of a path, as it writes them.
fn indices(path: &str) -> &str {
    let first = path.trim_start_matches('/').split('/').next().unwrap_or("");
    if first.starts_with('_') && first != "_all" { "" } else { first }
}

/// The id that stands at the end of a document's path.
fn id(path: &str) -> &str {
    path.trim_start_matches('/').split('/').nth(2).unwrap_or("")
}

pub(super) fn of(action: &Action, path: &str, body: &[u8]) -> String {
    let (index, body) = (indices(path), String::from_utf8_lossy(body));
    match action.name {
        "indices:data/read/search" => {
            format!("indices[{index}], types[], search_type[QUERY_THEN_FETCH], source[{}]", body.trim_end())
        }
        "indices:data/read/get" => format!("get [{index}][_doc][{}]: routing [null]", id(path)),
        "indices:data/write/index" => format!("index {{[{index}][_doc][{}]}}", id(path)),
        "indices:data/write/delete" => format!("delete {{[{index}][_doc][{}]}}", id(path)),
        "indices:data/write/update" => {
            // `/{index}/_update/{id}`
            format!("update {{[{index}][_doc][{}]}}", id(path))
        }
        "indices:data/write/delete/byquery" => format!("delete-by-query [{index}]"),
        "indices:data/write/update/byquery" => format!("update-by-query [{index}]"),
        name if name.starts_with("indices:") => format!("indices[{index}]"),
        _ => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::actions;
    use super::*;

    #[test]
    fn descriptions_name_indices_documents_and_queries() {
        let check = |handler: &str, path: &str, body: &str, expected: &str| {
            assert_eq!(of(actions::of(handler, ""), path, body.as_bytes()), expected);
        };
        check(
            "search::search",
            "/a,b/_search",
            "{\"size\":1}\n",
            "indices[a,b], types[], search_type[QUERY_THEN_FETCH], source[{\"size\":1}]",
        );
        check("search::search", "/_search", "", "indices[], types[], search_type[QUERY_THEN_FETCH], source[]");
        check("document::get", "/a/_doc/1", "", "get [a][_doc][1]: routing [null]");
        check("by_query::delete", "/a/_delete_by_query", "{}", "delete-by-query [a]");
        check("upkeep::refresh", "/a/_refresh", "", "indices[a]");
        check("nodes::info", "/_nodes", "", "");
    }
}
