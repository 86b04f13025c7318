//! The server's own interface: jobs, plans, what there is.

use std::{collections::BTreeMap, sync::Arc};

use axum::{
    Extension, Json, Router,
    body::Bytes,
    extract::{Path, State},
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use serde::{Deserialize, Deserializer, Serialize, de::Error as _};
use serde_json::{Value, json};
use utoipa::{IntoParams, ToSchema};

use super::{
    asked::{self, Ask},
    events,
    fault::Fault,
    gate::Client,
    job::{Door, Job, Previews, State as JobState},
    models,
    read::{self, Asked},
    server::{Server, Shared},
};
use crate::{cache::CacheRule, samplers::SamplerKind};

/// Jobs of one list, where the request is silent, and the most.
const LISTED: usize = 50;
const MOST_LISTED: usize = 200;

/// A job as it is asked for.
#[derive(Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(default)]
pub(super) struct JobRequest {
    /// The recipe that pictures keep, with names of `files` and of what the server offers in place of paths
    #[schema(value_type = Object, required = true)]
    recipe: Value,
    /// Files that the recipe names, in base64
    #[schema(example = json!({}))]
    files: BTreeMap<String, String>,
    /// Model calls from one preview to the next; none where it is 0 or absent
    #[schema(minimum = 0, maximum = 1_000_000)]
    preview_every: Option<u32>,
    /// Whether previews are decoded; otherwise a linear map of the latents makes them, at next to no cost
    preview_decoded: bool,
    /// png, jpeg or webp; of films apng, gif, y4m, or mp4
    format: Option<String>,
}

/// Which jobs to list.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct JobsQuery {
    /// States, joined by commas
    state: Option<String>,
    /// The most that are listed, 1 to 200
    #[param(minimum = 1, maximum = 200)]
    #[serde(default, deserialize_with = "whole")]
    limit: Option<usize>,
    /// Go on after this job
    before: Option<String>,
}

/// A whole number, or what stands in its place.
fn whole<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<usize>, D::Error> {
    let text = String::deserialize(deserializer)?;
    let refused = |_| {
        let text = read::short(&text);
        D::Error::custom(format!("`{text}` is no whole number of 1 to {MOST_LISTED}"))
    };
    text.parse().map(Some).map_err(refused)
}

/// The paths of the interface.
pub(super) fn routes() -> Router<Arc<Server>> {
    Router::new()
        .route("/v1/jobs", get(list).post(create))
        .route("/v1/jobs/{id}", get(show).delete(stop))
        .route("/v1/jobs/{id}/events", get(follow))
        .route("/v1/events", get(follow_all))
        .route("/v1/plan", post(plan))
        .route("/v1/models", get(models::list))
        .route("/v1/models/{id}", get(models::show))
        .route("/v1/info", get(info))
}

fn ask(request: JobRequest, warnings: Vec<String>) -> Result<Ask, Fault> {
    Ok(Ask {
        files: read::files(&request.files)?,
        recipe: request.recipe,
        format: request.format,
        previews: Previews {
            every: request.preview_every.unwrap_or(0),
            decoded: request.preview_decoded,
        },
        warnings,
    })
}

/// Ask for pictures or films
#[utoipa::path(post, operation_id = "createJob", path = "/v1/jobs", tag = "jobs", request_body = JobRequest, responses(
    (status = 202, description = "The job"),
    (status = "4XX", description = "Refused"),
    (status = 503, description = "The server is shutting down")))]
pub(super) async fn create(
    State(server): Shared,
    Extension(client): Extension<Client>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, Fault> {
    let (request, warnings) = read::typed::<JobRequest>(read::object(&headers, &body)?)?;
    let job = asked::submit(&server, &client.0, Door::Own, ask(request, warnings)?).await?;
    let mut response = (StatusCode::ACCEPTED, Json(job.now())).into_response();
    let place = HeaderValue::from_str(&format!("/v1/jobs/{}", job.id));
    if let Ok(place) = place {
        response.headers_mut().insert(header::LOCATION, place);
    }
    Ok(response)
}

/// List your jobs, newest first
#[utoipa::path(get, operation_id = "listJobs", path = "/v1/jobs", tag = "jobs", params(JobsQuery), responses(
    (status = 200, description = "Jobs"),
    (status = "4XX", description = "Refused")))]
pub(super) async fn list(
    State(server): Shared,
    Extension(client): Extension<Client>,
    Asked(query): Asked<JobsQuery>,
) -> Result<Json<Value>, Fault> {
    let limit = query.limit.unwrap_or(LISTED);
    if !(1..=MOST_LISTED).contains(&limit) {
        return Err(Fault::value(
            "limit",
            format!("`limit` is {limit}, and 1 to {MOST_LISTED} are listed"),
        ));
    }
    let states: Vec<&str> = query
        .state
        .iter()
        .flat_map(|states| states.split(','))
        .collect();
    let known = JobState::ALL.map(JobState::name);
    if let Some(other) = states.iter().find(|state| !known.contains(state)) {
        let message = format!("there is no state `{}`", read::short(other));
        let hint = format!("there are {}", known.join(", "));
        return Err(Fault::value("state", message).hint(hint));
    }
    let jobs = server.queue.of(&client.0);
    let after = match &query.before {
        Some(id) => {
            let place = jobs.iter().position(|job| job.id == *id);
            1 + place.ok_or_else(|| Fault::not_found("there is no such job").of("before"))?
        }
        None => 0,
    };
    let wanted = |job: &&Arc<Job>| states.is_empty() || states.contains(&job.state().name());
    let found: Vec<_> = jobs[after..]
        .iter()
        .filter(wanted)
        .take(limit + 1)
        .collect();
    let shown: Vec<_> = found.iter().take(limit).map(|job| job.now()).collect();
    Ok(Json(json!({"jobs": shown, "more": found.len() > limit})))
}

/// Look at a job
#[utoipa::path(get, operation_id = "getJob", path = "/v1/jobs/{id}", tag = "jobs", params(("id" = String, Path)), responses(
    (status = 200, description = "The job"),
    (status = "4XX", description = "Refused")))]
pub(super) async fn show(
    State(server): Shared,
    Extension(client): Extension<Client>,
    Path(id): Path<String>,
) -> Result<Response, Fault> {
    let job = server.queue.find(&client.0, &id)?;
    Ok(Json(job.now()).into_response())
}

/// Stop a job that waits or runs; take the results of a finished one away
#[utoipa::path(delete, operation_id = "stopJob", path = "/v1/jobs/{id}", tag = "jobs", params(("id" = String, Path)), responses(
    (status = 200, description = "The job"),
    (status = "4XX", description = "Refused")))]
pub(super) async fn stop(
    State(server): Shared,
    Extension(client): Extension<Client>,
    Path(id): Path<String>,
) -> Result<Response, Fault> {
    let job = server.queue.find(&client.0, &id)?;
    if job.state().stays() {
        server.queue.forget(&job);
    } else {
        server.queue.cancel(&job);
    }
    Ok(Json(job.now()).into_response())
}

/// Follow a job by server-sent events
#[utoipa::path(get, operation_id = "followJob", path = "/v1/jobs/{id}/events", tag = "jobs", params(("id" = String, Path)), responses(
    (status = 200, description = "Events `state` and `preview`", content_type = "text/event-stream"),
    (status = "4XX", description = "Refused")))]
pub(super) async fn follow(
    State(server): Shared,
    Extension(client): Extension<Client>,
    Path(id): Path<String>,
) -> Result<Response, Fault> {
    let job = server.queue.find(&client.0, &id)?;
    Ok(events::answer(events::of_job(job)))
}

/// Follow all your jobs by server-sent events
#[utoipa::path(get, operation_id = "followJobs", path = "/v1/events", tag = "jobs", responses(
    (status = 200, description = "Events `job`", content_type = "text/event-stream"),
    (status = "4XX", description = "Refused")))]
pub(super) async fn follow_all(
    State(server): Shared,
    Extension(client): Extension<Client>,
) -> Response {
    events::answer(events::of_all(server, client.0))
}

/// Say what a job would do, from configurations alone
#[utoipa::path(post, operation_id = "planJob", path = "/v1/plan", tag = "jobs", request_body = JobRequest, responses(
    (status = 200, description = "What `afterimage plan --json` prints, with warnings"),
    (status = "4XX", description = "Refused"),
    (status = 503, description = "The server is shutting down")))]
pub(super) async fn plan(
    State(server): Shared,
    Extension(client): Extension<Client>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Json<Value>, Fault> {
    let (request, mut warnings) = read::typed::<JobRequest>(read::object(&headers, &body)?)?;
    let ask = ask(request, Vec::new())?;
    let planned = move |server: &Server| {
        let understood = asked::understand(server, &client.0, ask)?;
        Ok((asked::forecast(&understood)?, understood.warnings))
    };
    let (mut plan, said) = server.aside(planned).await?;
    warnings.extend(said);
    plan["warnings"] = warnings.into();
    Ok(Json(plan))
}

/// What the server is and has
#[utoipa::path(get, operation_id = "getInfo", path = "/v1/info", tag = "server", responses(
    (status = 200, description = "Devices, samplers, rules, adapters, limits"),
    (status = "4XX", description = "Refused")))]
pub(super) async fn info(State(server): Shared) -> Json<Value> {
    let rules = CacheRule::manual().map(|(rule, help)| json!({"rule": rule, "help": help}));
    let shelf = server.shelf();
    let (waiting, running) = server.queue.counts();
    let names = |named: &super::shelf::Named| named.keys().cloned().collect::<Vec<_>>();
    Json(json!({
        "version": env!("CARGO_PKG_VERSION"),
        "started": server.started(),
        "auth": !server.options.tokens.is_empty(),
        "devices": server.devices.iter().map(ToString::to_string).collect::<Vec<_>>(),
        "samplers": SamplerKind::all().map(SamplerKind::name).collect::<Vec<_>>(),
        "rules": rules.collect::<Vec<_>>(),
        "loras": names(&shelf.loras),
        "embeddings": names(&shelf.embeddings),
        "controls": names(&shelf.controls),
        "vaes": names(&shelf.vaes),
        "limits": server.options.limits,
        "queue": {"waiting": waiting, "running": running},
    }))
}
