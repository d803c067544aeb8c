//! How the operator writes its log: one JSON object per line, with the fields of the pass that it belongs to.

use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::ParseError;
use tracing_subscriber::fmt::MakeWriter;

/// What takes the lines that pass the filter.
///
/// # Errors
/// When the filter cannot be read.
pub fn json<W>(filter: &str, writer: W) -> Result<impl tracing::Subscriber + Send + Sync + 'static, ParseError>
where
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    let subscriber = tracing_subscriber::fmt()
        .json()
        .with_env_filter(EnvFilter::try_new(filter)?)
        .with_current_span(true)
        .with_span_list(false)
        .with_writer(writer);
    Ok(subscriber.finish())
}
