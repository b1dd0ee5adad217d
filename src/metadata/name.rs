//! What an index or alias may be called.

use ringdex_net::cluster::state::ClusterState;

use crate::error::{ApiError, ApiResult};

fn invalid(name: &str, why: &str) -> ApiError {
    ApiError::new(400, "invalid_index_name_exception", format!("Invalid index name [{name}], {why}"))
        .with("index_uuid", "_na_")
        .with("index", name)
}

/// Refuses names no index can have.
pub fn check_index_name(name: &str) -> ApiResult<()> {
    check(name, &|why| invalid(name, why))?;
    if name.chars().any(char::is_uppercase) {
        return Err(invalid(name, "must be lowercase"));
    }
    Ok(())
}

/// Refuses names no alias can have. Aliases may have upper-case letters.
pub fn check_alias_name(name: &str) -> ApiResult<()> {
    if name.is_empty() {
        return Err(ApiError::illegal_argument("alias name is required"));
    }
    check(name, &|why| {
        ApiError::new(400, "invalid_alias_name_exception", format!("Invalid alias name [{name}]: {why}"))
            .with("index_uuid", "_na_")
            .with("index", name)
    })
}

fn check(name: &str, error: &dyn Fn(&str) -> ApiError) -> ApiResult<()> {
    const BAD: [char; 9] = ['\\', '/', '*', '?', '"', '<', '>', '|', ' '];
    if name.is_empty() {
        return Err(error("must not be empty"));
    }
    if name.chars().any(|c| BAD.contains(&c) || c == ',') {
        return Err(error("must not contain the following characters [ , \", *, \\, <, |, ,, >, /, ?]"));
    }
    if name.contains(char::is_control) {
        return Err(error("must not contain control characters"));
    }
    if name.contains('#') {
        return Err(error("must not contain '#'"));
    }
    if name.contains(':') {
        return Err(error("must not contain ':'"));
    }
    if name.starts_with(['_', '-', '+']) {
        return Err(error("must not start with '_', '-', or '+'"));
    }
    if name.len() > 255 {
        return Err(error(&format!("index name is too long, ({} > 255)", name.len())));
    }
    if name == "." || name == ".." {
        return Err(error("must not be '.' or '..'"));
    }
    Ok(())
}

/// Refuses a new index whose name is taken.
pub fn check_free(state: &ClusterState, name: &str) -> ApiResult<()> {
    if let Some(index) = state.indices.get(name) {
        return Err(already_exists(name, &index.uuid));
    }
    if state.indices_of_alias(name).next().is_some() {
        return Err(invalid(name, "already exists as alias"));
    }
    Ok(())
}

/// 400 `resource_already_exists_exception`.
#[must_use]
pub fn already_exists(name: &str, uuid: &str) -> ApiError {
    ApiError::new(400, "resource_already_exists_exception", format!("index [{name}/{uuid}] already exists"))
        .with("index_uuid", uuid)
        .with("index", name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_refused_with_the_reason() {
        for (name, why) in [
            ("Test", "must be lowercase"),
            ("a b", "must not contain the following characters"),
            ("a,b", "must not contain the following characters"),
            ("a#b", "must not contain '#'"),
            ("a:b", "must not contain ':'"),
            ("_a", "must not start with '_', '-', or '+'"),
            ("..", "must not be '.' or '..'"),
            ("", "must not be empty"),
        ] {
            let error = check_index_name(name).unwrap_err();
            assert!(error.reason.contains(why), "{name}: {}", error.reason);
        }
        assert!(check_index_name(&"a".repeat(256)).is_err());
        assert!(check_index_name("logs-2020.01.01").is_ok());
        assert!(check_alias_name("Upper").is_ok());
    }
}
