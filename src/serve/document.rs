//! The `OpenAPI` document.

use std::sync::LazyLock;

use axum::{
    http::{HeaderValue, header},
    response::{IntoResponse as _, Response},
};
use utoipa::{
    Modify, OpenApi,
    openapi::{
        OpenApi as Whole,
        security::{Http, HttpAuthScheme, SecurityRequirement, SecurityScheme},
    },
};

use super::{health, models, openai, own, sdapi};

/// All that is described.
#[derive(OpenApi)]
#[openapi(
    info(title = "Afterimage", description = "Pictures and films from diffusion models. Lists of the web interface under /sdapi/v1 that are not here have its own forms."),
    paths(
        own::create, own::list, own::show, own::stop, own::follow, own::follow_all, own::plan, own::info,
        models::list, models::show, openai::generate, openai::edit,
        sdapi::txt2img, sdapi::img2img, sdapi::progress::show, sdapi::progress::stop, sdapi::options::show, sdapi::options::set,
        sdapi::options::png_info, health::show, health::metrics,
    ),
    components(schemas(own::JobRequest, openai::ImageRequest, openai::EditRequest, sdapi::SdRequest, sdapi::PngInfo)),
    modifiers(&Secrets)
)]
struct Document;

/// Both ways to send a token; neither where none is asked for.
struct Secrets;

impl Modify for Secrets {
    fn modify(&self, document: &mut Whole) {
        let components = document.components.get_or_insert_default();
        for (name, scheme) in [
            ("bearer", HttpAuthScheme::Bearer),
            ("basic", HttpAuthScheme::Basic),
        ] {
            let scheme = SecurityScheme::Http(Http::new(scheme));
            components.add_security_scheme(name, scheme);
        }
        let ways = ["bearer", "basic"]
            .map(|name| SecurityRequirement::new::<_, [&str; 0], &str>(name, []));
        document.security = Some([vec![SecurityRequirement::default()], ways.to_vec()].concat());
    }
}

static TEXT: LazyLock<String> =
    LazyLock::new(|| serde_json::to_string(&Document::openapi()).unwrap_or_default());

/// The document as JSON.
pub(super) async fn show() -> Response {
    let kind = HeaderValue::from_static("application/json");
    ([(header::CONTENT_TYPE, kind)], TEXT.as_str()).into_response()
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    #[test]
    fn parameters_are_where_the_document_says() {
        let document: Value = serde_json::from_str(&TEXT).unwrap();
        let mut queries = 0;
        for (path, operations) in document["paths"].as_object().unwrap() {
            let operations = operations.as_object().unwrap().values();
            let parameters = operations.filter_map(|one| one["parameters"].as_array());
            for parameter in parameters.flatten() {
                let name = parameter["name"].as_str().unwrap();
                let within = path.contains(&format!("{{{name}}}"));
                let place = if within { "path" } else { "query" };
                assert_eq!(parameter["in"], place, "{path}: {name}");
                queries += usize::from(!within);
            }
        }
        assert!(queries >= 9, "{queries}");
    }
}
