//! Stands where the shard will: opens its directory, answers nothing of use.

use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;

use ringdex_net::cluster::state::IndexMetadata;
use serde_json::Value;

use crate::backend::{CompiledIndex, LocalFuture};
use crate::error::{ApiError, ApiResult};
use crate::io::NodeIo;
use crate::shard::message::{ShardId, ShardRequest, ShardResponse};

/// What a shard is opened with.
#[allow(missing_docs)]
pub struct ShardSpec {
    pub id: ShardId,
    pub path: PathBuf,
    pub index: Arc<IndexMetadata>,
    pub compiled: CompiledIndex,
    pub core: u32,
    pub memory: u64,
}

/// What a shard needs of its core.
pub trait ShardOwner {
    /// Adds fields to the index's mapping.
    fn update_mapping(&self, uuid: &str, fragment: Value) -> LocalFuture<'static, ApiResult<()>>;
    /// The shard cannot go on.
    fn shard_failed(&self, id: &ShardId, reason: &str);
}

/// A shard.
pub struct Shard<I: NodeIo> {
    _directory: I::Directory,
    _owner: Rc<dyn ShardOwner>,
}

#[allow(missing_docs)]
impl<I: NodeIo> Shard<I> {
    pub async fn open(io: I, spec: ShardSpec, owner: Rc<dyn ShardOwner>) -> ApiResult<Rc<Shard<I>>> {
        Ok(Rc::new(Shard { _directory: io.directory(&spec.path).await?, _owner: owner }))
    }

    pub async fn handle(self: &Rc<Self>, request: ShardRequest) -> ApiResult<ShardResponse> {
        match request {
            ShardRequest::Refresh | ShardRequest::Flush { .. } => Ok(ShardResponse::Done),
            ShardRequest::Stats => Ok(ShardResponse::Stats(Box::default())),
            _ => Err(ApiError::new(503, "unavailable_shards_exception", "this shard answers nothing yet")),
        }
    }

    pub fn apply(&self, _index: Arc<IndexMetadata>, _compiled: CompiledIndex) {}

    pub async fn close(&self) {}
}
