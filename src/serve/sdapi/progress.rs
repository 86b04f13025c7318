//! How far a client's picture is, and stopping it.

use std::{sync::Arc, time::SystemTime};

use axum::{Extension, Json, extract::State};
use serde::Deserialize;
use serde_json::{Value, json};
use utoipa::IntoParams;

use super::{answer::timestamp, numbers};
use crate::serve::{
    fault::Fault,
    gate::Client,
    job::{Door, Job, State as JobState},
    read::{Asked, to_base64},
    server::{Server, Shared},
};

/// Where a picture is that has begun, at least: 0 is for those that have not.
const BEGUN: f64 = 0.01;

#[derive(Debug, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(default)]
pub(in crate::serve) struct ProgressQuery {
    /// Leave the preview out
    #[serde(deserialize_with = "numbers::truth")]
    skip_current_image: Option<bool>,
    /// Of this job; else of what you have asked for here
    id: Option<String>,
    id_task: Option<String>,
}

/// How far your picture is
#[utoipa::path(get, operation_id = "getProgress", path = "/sdapi/v1/progress", tag = "sdapi", params(ProgressQuery), responses(
    (status = 200, description = "`progress`, `eta_relative`, `state`, `current_image`, `textinfo`"),
    (status = "4XX", description = "Refused")))]
pub(in crate::serve) async fn show(
    State(server): Shared,
    Extension(client): Extension<Client>,
    Asked(query): Asked<ProgressQuery>,
) -> Result<Json<Value>, Fault> {
    let Some(job) = asked(&server, &client.0, &query)? else {
        return Ok(Json(idle()));
    };
    let with_image = !query.skip_current_image.unwrap_or(false);
    if with_image {
        job.look();
    }
    Ok(Json(seen(&job, with_image)))
}

/// Stop your picture
#[utoipa::path(post, operation_id = "interrupt", path = "/sdapi/v1/interrupt", tag = "sdapi", params(ProgressQuery), responses(
    (status = 200, description = "It stops, if there is one"),
    (status = "4XX", description = "Refused")))]
pub(in crate::serve) async fn stop(
    State(server): Shared,
    Extension(client): Extension<Client>,
    Asked(query): Asked<ProgressQuery>,
) -> Result<Json<Value>, Fault> {
    if let Some(job) = asked(&server, &client.0, &query)? {
        server.queue.cancel(&job);
    }
    Ok(Json(Value::Null))
}

/// The job of that name, or what the client's jobs of this interface do.
fn asked(server: &Server, owner: &str, query: &ProgressQuery) -> Result<Option<Arc<Job>>, Fault> {
    match query.id.as_ref().or(query.id_task.as_ref()) {
        Some(id) => server.queue.find(owner, id).map(Some),
        None => Ok(server.queue.current(owner, Door::Sdapi)),
    }
}

fn idle() -> Value {
    json!({
        "progress": 0.0,
        "eta_relative": 0.0,
        "state": state("", 0, (0, 0), SystemTime::now()),
        "current_image": null,
        "textinfo": null,
    })
}

fn seen(job: &Job, with_image: bool) -> Value {
    let seen = job.now();
    let share = if seen.steps == 0 {
        0.0
    } else {
        seen.step as f64 / seen.steps as f64
    };
    let progress = if seen.state == JobState::Running {
        share.clamp(BEGUN, 1.0)
    } else {
        0.0
    };
    let passed = seen.started.and_then(|started| started.elapsed().ok());
    let passed = passed.unwrap_or_default().as_secs_f64();
    let left = if share > 0.0 {
        passed / share - passed
    } else {
        0.0
    };
    let preview = job.preview.borrow().clone().filter(|_| with_image);
    let words = seen
        .position
        .map(|position| format!("waits, {position} in front"));
    let mut state = state("txt2img", 1, (seen.step, seen.steps), seen.created);
    state["interrupted"] = job.cancel.is_now().into();
    json!({
        "progress": progress,
        "eta_relative": left,
        "state": state,
        "current_image": preview.map(|preview| to_base64(&preview.jpeg)),
        "textinfo": words,
        "id": seen.id,
    })
}

fn state(job: &str, count: usize, (step, steps): (usize, usize), created: SystemTime) -> Value {
    json!({
        "skipped": false,
        "interrupted": false,
        "stopping_generation": false,
        "job": job,
        "job_count": count,
        "job_timestamp": timestamp(created),
        "job_no": 0,
        "sampling_step": step,
        "sampling_steps": steps,
    })
}
