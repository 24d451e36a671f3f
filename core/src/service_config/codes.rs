//! Status codes as a service config names them.

use serde::Deserialize;
use serde_json::Value;

use crate::Code;

/// gRPC's names of the codes, each at its number.
const CODES: [(&str, Code); 17] = [
    ("OK", Code::Ok),
    ("CANCELLED", Code::Cancelled),
    ("UNKNOWN", Code::Unknown),
    ("INVALID_ARGUMENT", Code::InvalidArgument),
    ("DEADLINE_EXCEEDED", Code::DeadlineExceeded),
    ("NOT_FOUND", Code::NotFound),
    ("ALREADY_EXISTS", Code::AlreadyExists),
    ("PERMISSION_DENIED", Code::PermissionDenied),
    ("RESOURCE_EXHAUSTED", Code::ResourceExhausted),
    ("FAILED_PRECONDITION", Code::FailedPrecondition),
    ("ABORTED", Code::Aborted),
    ("OUT_OF_RANGE", Code::OutOfRange),
    ("UNIMPLEMENTED", Code::Unimplemented),
    ("INTERNAL", Code::Internal),
    ("UNAVAILABLE", Code::Unavailable),
    ("DATA_LOSS", Code::DataLoss),
    ("UNAUTHENTICATED", Code::Unauthenticated),
];

/// The code of a failure, by its name or its number.
#[derive(Deserialize)]
#[serde(try_from = "Value")]
pub(super) struct FailureCode(pub(super) Code);

impl TryFrom<Value> for FailureCode {
    type Error = String;

    fn try_from(value: Value) -> Result<Self, String> {
        let found = match &value {
            Value::String(name) => CODES.iter().find(|(known, _)| known == name),
            number => number.as_u64().and_then(|number| CODES.get(usize::try_from(number).ok()?)),
        };
        match found {
            None => Err(format!("{value} is no status code such as \"UNAVAILABLE\" or 14")),
            Some((_, Code::Ok)) => Err("OK is no failure to retry after".to_owned()),
            Some((_, code)) => Ok(Self(*code)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_code_stands_at_its_number() {
        for (number, (name, code)) in CODES.into_iter().enumerate() {
            assert_eq!(code as usize, number, "{name}");
            assert_eq!(name.replace('_', "").to_lowercase(), format!("{code:?}").to_lowercase());
        }
    }
}
