//! One photo, one trace: the spans of all stages hang together by the header `traceparent` (W3C Trace Context).
//!
//! Takes    the headers of a delivery and the span that works on it. Gives the header of what follows from it.
//! Weak at  nobody who records: then what came is passed on as it is, if it is of that form.

use async_nats::HeaderMap;
use dih_core::topology::header::TRACEPARENT;
use opentelemetry::{
    global,
    propagation::{Extractor, Injector},
    trace::TraceContextExt,
};
use tracing::Span;
use tracing_opentelemetry::OpenTelemetrySpanExt;

/// `00-<32 hex digits>-<16>-<2>`.
const TRACEPARENT_BYTES: usize = 55;

struct Came<'a>(&'a HeaderMap);

impl Extractor for Came<'_> {
    fn get(&self, key: &str) -> Option<&str> {
        self.0.get(key).map(|value| value.as_str())
    }

    fn keys(&self) -> Vec<&str> {
        vec![TRACEPARENT]
    }
}

#[derive(Default)]
struct Goes(Option<String>);

impl Injector for Goes {
    fn set(&mut self, key: &str, value: String) {
        if key == TRACEPARENT {
            self.0 = Some(value);
        }
    }
}

/// Makes a span that has not begun a child of the one that its delivery came from.
pub(crate) fn follow(span: &Span, headers: &HeaderMap) {
    if span.is_disabled() || headers.get(TRACEPARENT).is_none() {
        return;
    }
    let parent = global::get_text_map_propagator(|propagator| propagator.extract(&Came(headers)));
    // Refused where nobody records.
    let _ = span.set_parent(parent);
}

/// What a message must carry that follows from this delivery.
pub(crate) fn passed_on(headers: &HeaderMap) -> Option<String> {
    let here = Span::current().context();
    if here.span().span_context().is_valid() {
        let mut goes = Goes::default();
        global::get_text_map_propagator(|propagator| propagator.inject_context(&here, &mut goes));
        return goes.0;
    }
    let came = headers.get(TRACEPARENT)?.as_str();
    let hex = |c: u8| c.is_ascii_hexdigit() || c == b'-';
    (came.len() == TRACEPARENT_BYTES && came.bytes().all(hex)).then(|| came.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_nobody_records_only_what_is_of_the_form_is_passed_on() {
        let of = |value: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(TRACEPARENT, value);
            passed_on(&headers)
        };
        // Source: the example of W3C Trace Context, 3.2.
        let example = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
        assert_eq!(of(example).as_deref(), Some(example));
        for odd in ["", "00-0af7", &"x".repeat(55), &"0".repeat(1000)] {
            assert_eq!(of(odd), None, "{odd}");
        }
        assert_eq!(passed_on(&HeaderMap::new()), None);
    }
}
