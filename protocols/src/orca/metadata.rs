//! The load report in the trailers of a response.

use base64::Engine;
use base64::alphabet::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use callboard_core::{Load, LoadReport};
use http::{HeaderMap, HeaderName, HeaderValue};
use prost::Message;

use super::message::OrcaLoadReport;

/// The name of the report's trailer.
pub const LOAD_METRICS: HeaderName = HeaderName::from_static("endpoint-load-metrics-bin");

/// Written without padding and read with or without it, as gRPC requires for binary metadata.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new().with_encode_padding(false).with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// The largest encoded report in trailers, in bytes. A report's figures take a few hundred bytes, and many peers accept
/// no more than 8 KiB of trailers in all.
const LARGEST: usize = 8 << 10;

/// Returns the report in trailers, or in the headers of a response without trailers. It is not decoded, as it is nearly
/// always unused. None if there is no report, several, or one that is too large.
pub fn load_in(trailers: &HeaderMap) -> Option<Load> {
    // This compares each name: there are few, and hashing takes longer.
    let mut found = trailers.iter().filter(|(name, _)| *name == LOAD_METRICS).map(|(_, value)| value);
    let value = found.next()?;
    let why = match found.next() {
        Some(_) => "there are several",
        None if value.len() > LARGEST => "it is too large",
        None => {
            // A copy, as the value would keep the whole buffer that it came in.
            let text = value.as_bytes().to_vec();
            return Some(Load::unread(move || read(&text)));
        }
    };
    tracing::debug!(why, size = value.len(), "a load report was ignored");
    None
}

/// Decodes a report. None if it cannot be decoded.
fn read(text: &[u8]) -> LoadReport {
    decode(text).unwrap_or_else(|error| {
        tracing::debug!(error, "a load report cannot be read");
        LoadReport::default()
    })
}

fn decode(text: &[u8]) -> Result<LoadReport, String> {
    let bytes = BASE64.decode(text).map_err(|error| error.to_string())?;
    let message = OrcaLoadReport::decode(&*bytes).map_err(|error| error.to_string())?;
    Ok(message.into())
}

/// Encodes a report as a header value.
pub(super) fn encode(report: LoadReport) -> HeaderValue {
    let text = BASE64.encode(OrcaLoadReport::from(report).encode_to_vec());
    HeaderValue::try_from(text).expect("base64 is a header value")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn trailers(values: &[&str]) -> HeaderMap {
        values.iter().map(|value| (LOAD_METRICS, HeaderValue::from_str(value).expect("a header value"))).collect()
    }

    fn said(values: &[&str]) -> Option<LoadReport> {
        load_in(&trailers(values)).map(|load| load.report().clone())
    }

    fn full() -> LoadReport {
        let mut report = LoadReport::default();
        (report.cpu_utilization, report.mem_utilization, report.application_utilization) = (0.25, 0.5, 0.75);
        (report.rps_fractional, report.eps) = (120.5, 1.5);
        report.request_cost.insert("rows".into(), 7.0);
        report.utilization.insert("disk".into(), 0.9);
        report.named_metrics.insert("queue".into(), 3.0);
        report
    }

    #[test]
    fn a_report_is_read_as_it_was_written_with_or_without_padding() {
        for report in [full(), LoadReport::default()] {
            let text = encode(report.clone()).to_str().expect("text").to_owned();
            assert!(!text.contains('='));
            let padded = format!("{text}{}", "=".repeat((4 - text.len() % 4) % 4));
            for text in [text, padded] {
                assert_eq!(said(&[&text]), Some(report.clone()), "{text}");
            }
        }
    }

    #[test]
    fn no_report_several_reports_and_large_ones_are_none_and_garbage_says_nothing() {
        let fine = encode(full()).to_str().expect("text").to_owned();
        let mut large = full();
        large.named_metrics.insert("x".repeat(LARGEST), 1.0);
        let large = encode(large).to_str().expect("text").to_owned();
        let none: [&[&str]; 3] = [&[], &[&fine, &fine], &[&large]];
        for values in none {
            assert_eq!(said(values), None, "{values:?}");
        }
        for garbage in ["!", "QUJD", &fine[..fine.len() - 2], "CQ,CQ"] {
            assert_eq!(said(&[garbage]), Some(LoadReport::default()), "{garbage}");
        }
    }

    proptest! {
        #[test]
        fn no_value_at_all_can_break_it(bytes in prop::collection::vec(any::<u8>(), 0..200), raw in any::<bool>()) {
            let value = if raw { HeaderValue::from_bytes(&bytes).ok() } else { HeaderValue::try_from(BASE64.encode(&bytes)).ok() };
            let load = load_in(&value.into_iter().map(|value| (LOAD_METRICS, value)).collect());
            load.iter().for_each(|load| _ = load.report());
        }
    }
}
