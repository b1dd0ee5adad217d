//! The job done by tantivy: the same analysis as near as its default tokenizer gets (it splits at `_`, too), `_source` stored,
//! columns for what is sorted and aggregated.

pub mod index;
pub mod search;

use std::error::Error;

use tantivy::schema::{FAST, INDEXED, IndexRecordOption, STORED, Schema, TextFieldIndexing, TextOptions};

type Failure = Box<dyn Error>;
type Outcome = Result<(), Failure>;

const ENGINE: &str = "tantivy";

fn schema() -> Schema {
    let mut schema = Schema::builder();
    let text = TextFieldIndexing::default()
        .set_tokenizer("default")
        .set_index_option(IndexRecordOption::WithFreqsAndPositions);
    let text = TextOptions::default().set_indexing_options(text);
    let exact = TextFieldIndexing::default()
        .set_tokenizer("raw")
        .set_fieldnorms(false)
        .set_index_option(IndexRecordOption::Basic);
    let exact = TextOptions::default().set_indexing_options(exact);
    schema.add_text_field("id", exact.clone());
    schema.add_text_field("title", text.clone());
    schema.add_text_field("body", text);
    schema.add_text_field("pkg", exact.clone().set_fast("raw"));
    schema.add_text_field("dir", exact.set_fast("raw"));
    for name in ["words", "bytes", "ts"] {
        schema.add_i64_field(name, INDEXED | FAST);
    }
    schema.add_f64_field("pop", INDEXED | FAST);
    schema.add_bytes_field("_source", STORED);
    schema.build()
}
