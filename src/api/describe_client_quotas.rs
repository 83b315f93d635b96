//! DescribeClientQuotas (48), versions 0 and 1: the quotas that match a filter. None are set, since none can be; what is
//! wrong with a filter is told as in Kafka (`ClientQuotasImage.describe`).

use std::borrow::Cow;

use super::Request;
use super::reply::Reply;
use crate::protocol::error_code::ErrorCode;
use crate::protocol::messages::describe_client_quotas::{
    ComponentData, DescribeClientQuotasRequest, DescribeClientQuotasResponse,
};
use crate::protocol::wire::Reader;

const IP: &str = "ip";
const ENTITY_TYPES: [&str; 3] = ["user", "client-id", IP];

/// Handles one request.
pub(super) fn handle<B>(request: &Request) -> Reply<B> {
    let Ok(message) = DescribeClientQuotasRequest::decode(&mut Reader::new(&request.body), request.version) else {
        return Reply::Close;
    };
    Reply::Now(request.respond(&respond(&message)))
}

fn respond(request: &DescribeClientQuotasRequest<'_>) -> DescribeClientQuotasResponse<'static> {
    match check(&request.components) {
        Ok(()) => DescribeClientQuotasResponse::default(),
        Err((error, message)) => DescribeClientQuotasResponse {
            error_code: error.code(),
            error_message: Some(Cow::Owned(message)),
            entries: None,
            ..DescribeClientQuotasResponse::default()
        },
    }
}

/// Checks a filter in Kafka's order.
fn check(components: &[ComponentData<'_>]) -> Result<(), (ErrorCode, String)> {
    let invalid = |message: String| Err((ErrorCode::InvalidRequest, message));
    let mut seen: Vec<&str> = Vec::new();
    for component in components {
        let entity = &*component.entity_type;
        if entity.is_empty() {
            return invalid("Invalid empty entity type.".to_owned());
        }
        if seen.contains(&entity) {
            return invalid(format!("Entity type {entity} cannot appear more than once in the filter."));
        }
        if !ENTITY_TYPES.contains(&entity) {
            return Err((ErrorCode::UnsupportedVersion, format!("Unsupported entity type {entity}")));
        }
        match (component.match_type, component.r#match.is_some()) {
            (0, true) | (1 | 2, false) => seen.push(entity),
            (0, false) => {
                return invalid("Request specified MATCH_TYPE_EXACT, but set match string to null.".to_owned());
            }
            (1, true) => {
                return invalid("Request specified MATCH_TYPE_DEFAULT, but also specified a match string.".to_owned());
            }
            (2, true) => {
                return invalid(
                    "Request specified MATCH_TYPE_SPECIFIED, but also specified a match string.".to_owned(),
                );
            }
            (other, _) => return invalid(format!("Unknown match type {other}")),
        }
    }
    if seen.contains(&IP) && seen.len() > 1 {
        return invalid(
            "Invalid entity filter component combination. IP filter component should not be used with user or clientId \
             filter component."
                .to_owned(),
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(components: &[(&'static str, i8, Option<&'static str>)]) -> (i16, bool) {
        let component = |(entity, match_type, name): &(&'static str, i8, Option<&'static str>)| ComponentData {
            entity_type: Cow::Borrowed(*entity),
            match_type: *match_type,
            r#match: name.map(Cow::Borrowed),
        };
        let components = components.iter().map(component).collect();
        let response = respond(&DescribeClientQuotasRequest { components, strict: false });
        assert!(response.entries.as_ref().is_none_or(Vec::is_empty));
        (response.error_code, response.entries.is_some())
    }

    #[test]
    fn a_sound_filter_finds_nothing() {
        assert_eq!(ask(&[]), (0, true));
        assert_eq!(ask(&[("user", 1, None), ("client-id", 0, Some("x"))]), (0, true));
    }

    #[test]
    fn what_is_wrong_with_a_filter_is_told() {
        assert_eq!(ask(&[("tenant", 2, None)]), (35, false));
        for wrong in [
            &[("", 2, None)][..],
            &[("user", 2, None), ("user", 1, None)],
            &[("user", 0, None)],
            &[("user", 1, Some("a"))],
            &[("user", 2, Some("a"))],
            &[("user", 7, None)],
            &[("user", 2, None), ("ip", 2, None)],
        ] {
            assert_eq!(ask(wrong), (42, false), "{wrong:?}");
        }
    }
}
