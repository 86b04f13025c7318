//! `afterimage calibrate`: a router for Learning-to-Cache from a few runs.

use super::{
    args, cancel, console,
    job::{self, Machine, Model},
    progress::Watch,
    recipe,
};
use crate::{
    cache::CacheRule,
    error::Error,
    image_io::{check_writable, write_atomically},
};

pub(super) fn run(arguments: &args::Calibrate) -> Result<(), Error> {
    check_writable(&arguments.output, "the router")?;
    let model = Model::open(&arguments.model)?;
    let subject = job::subject(None, &arguments.course.class_label, &model);
    let request = recipe::request(&model, &arguments.course, subject, CacheRule::none(), 0)?;
    let resolved = request.resolve(&model.config)?;
    let mut workload = job::workload(&model, &request, &resolved);
    workload.macs *= arguments.seeds.len() as u64;
    let machine = Machine::open(&arguments.machine, &workload)?;
    machine.check_memory(&model, &request, &resolved)?;
    cancel::listen();
    let pipeline = model.load(&machine)?;
    let mut watch = Watch::new();
    let router = pipeline.calibrate(&request, &arguments.seeds, &mut watch)?;
    watch.finish();
    machine.note_run(&workload);
    write_atomically(&arguments.output, "the router", |file| router.write(file))?;
    console::data(&format!(
        "{}: {} branches, {} steps",
        arguments.output.display(),
        router.scores()[0].len(),
        router.scores().len()
    ))?;
    Ok(())
}
