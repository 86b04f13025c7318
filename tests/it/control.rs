//! `ControlNets`: cells, costs, windows, and how far they run.

use afterimage::cache::{CacheRule, Refresh, Session};
use afterimage::catalog::{ModelFolder, ModelPart};
use afterimage::conditioning::{Conditioning, Hint};
use afterimage::denoiser::{Carry as _, Evaluation, Rows, StagedDenoiser as _};
use afterimage::image_io::Picture;
use afterimage::models::control::{
    ControlNetConfig, ControlNetModel, ControlledRun, ControlledUNet,
};
use afterimage::pipeline::{Control, ModelConfig, Pipeline, Request};
use afterimage::recall::Recall;
use afterimage::weights::shapes;
use burn::tensor::Tensor;

use crate::fixture::{Fixture, shared};
use crate::golden::load;
use crate::param_lists::assert_same_parameters;
use crate::tested;
use crate::tolerance::F32_CPU;

const CARD: &str = "control_v11p_sd15_canny";

fn card() -> ControlNetConfig {
    ControlNetConfig::from_json(&ModelPart::open(CARD).unwrap().config().unwrap()).unwrap()
}

fn controlled(card: &str, nets: usize) -> ModelConfig {
    let mut config = ModelConfig::read(&ModelFolder::open_configs(card).unwrap()).unwrap();
    for _ in 0..nets {
        config.add_control(self::card()).unwrap();
    }
    config
}

fn pipeline() -> Pipeline {
    load(&Fixture::committed("sd15-controlnet"), &tested::device())
}

fn lines(width: usize, height: usize) -> Picture {
    Picture::from_fn(width, height, |x, y| [255 * u8::from(x == 20 || y == 9); 3])
}

fn request(steps: usize, rule: CacheRule, controls: Vec<Control>) -> Request {
    Request {
        steps: Some(steps),
        size: Some((72, 40)),
        cache: rule,
        controls,
        ..Request::new("a red fox")
    }
}

fn run(pipeline: &Pipeline, request: &Request) -> Vec<f32> {
    let generated = pipeline.generate(request, &mut ()).unwrap();
    generated.latents.into_data().iter::<f32>().collect()
}

#[test]
fn parameters_are_those_of_the_published_net() {
    if shared("data/param-lists").is_none() {
        return;
    }
    let net = ControlNetModel::new(&card(), &tested::device());
    let squeezed = |(name, shape): (String, Vec<usize>)| {
        let linear = name.contains(".proj_in.weight") || name.contains(".proj_out.weight");
        let shape = if linear {
            [&shape[..], &[1, 1]].concat()
        } else {
            shape
        };
        (name, shape)
    };
    let ours = shapes(&net).into_iter().map(squeezed).collect();
    assert_same_parameters("controlnet-sd15-canny", ours);
}

/// The trunk with its net, decoder input by decoder input, against diffusers' `UNet` with the residuals of its `ControlNet`.
#[test]
fn cells_agree_with_diffusers() {
    let device = tested::device();
    let fixture = Fixture::best("sd15-controlnet");
    let pipeline = load(&fixture, &device);
    let case = |id: &str| fixture.cases().find(|case| case["id"] == id);
    let (Some(net_case), Some(trunk_case)) = (case("controlnet"), case("unet_with_residuals"))
    else {
        return; // the committed selection has no traces
    };
    let golden = |key: &str| fixture.of(net_case, key).unwrap();
    let hint: Tensor<4> = golden("controlnet_cond").on(&device) / 255.0;
    let net = &pipeline.control_nets()[0];
    golden("hint_embedding")
        .compare(net.encode_hint(hint.clone()), tested::tolerance(F32_CPU))
        .unwrap();
    let trunk = ControlledUNet::new(crate::golden::unet(&pipeline), vec![net]);
    let timestep = net_case["call"]["timestep"].as_f64().unwrap();
    let evaluations = [Evaluation { index: 0, timestep }];
    let condition = Conditioning {
        rows: Rows::new(2, 1),
        hints: vec![Hint {
            picture: hint,
            scale: 0.7,
            evaluations: 0..1,
            guess: false,
        }],
        ..Conditioning::of_context(golden("encoder_hidden_states").on(&device))
    };
    let prepared = trunk.prepare(&trunk.start(&condition, &evaluations), &evaluations);
    let skips = crate::golden::unet(&pipeline).config().skips();
    let mut carry = trunk.enter(golden("sample").on(&device), &prepared);
    carry = trunk.advance(carry, 0..skips + 1, &prepared, &mut Recall::none());
    for skip in (0..skips).rev() {
        let name = &trunk_case["tensors"]["decoder_input_by_skip"][skip];
        let expected = fixture.tensor(name.as_str().unwrap());
        let compared = expected.compare(carry.trunk().hidden().clone(), tested::tolerance(F32_CPU));
        compared.unwrap_or_else(|error| panic!("in front of d{skip}: {error}"));
        let cell = 2 * skips - skip;
        carry = trunk.advance(carry, cell..cell + 1, &prepared, &mut Recall::none());
    }
    let output = fixture.of(trunk_case, "output").unwrap();
    output
        .compare(trunk.leave(carry, &prepared), tested::tolerance(F32_CPU))
        .unwrap();
}

#[test]
fn a_pass_can_pause_at_every_cut() {
    let pipeline = pipeline();
    let trunk = ControlledUNet::new(
        crate::golden::unet(&pipeline),
        vec![&pipeline.control_nets()[0]; 2],
    );
    let device = tested::device();
    let width = crate::golden::unet(&pipeline).config().context_width;
    let control = |scale: f64, guess: bool| Hint {
        picture: lines(72, 40).to_tensor(&device),
        scale,
        evaluations: 0..9,
        guess,
    };
    let context = Tensor::<3>::ones([2, 7, width], &device) * 0.3;
    let condition = Conditioning {
        rows: Rows::new(2, 1),
        hints: vec![control(0.7, false), control(0.4, true)],
        ..Conditioning::of_context(context)
    };
    let evaluations = [Evaluation {
        index: 0,
        timestep: 501.0,
    }];
    let prepared = trunk.prepare(&trunk.start(&condition, &evaluations), &evaluations);
    let sample = || Tensor::<4>::ones([2, 4, 5, 9], &device) * 0.5;
    let values = |tensor: Tensor<4>| tensor.into_data().iter::<f32>().collect::<Vec<_>>();
    let whole = values(trunk.forward(sample(), &prepared));
    for cut in 0..=trunk.cells() {
        let carry = trunk.enter(sample(), &prepared);
        let carry = trunk.advance(carry, 0..cut, &prepared, &mut Recall::none());
        let carry = trunk.advance(
            carry.clone(),
            cut..trunk.cells(),
            &prepared,
            &mut Recall::none(),
        );
        assert_eq!(values(trunk.leave(carry, &prepared)), whole, "cut {cut}");
    }
    let carry = trunk.enter(sample(), &prepared);
    let carry = trunk.advance(carry, 0..13, &prepared, &mut Recall::none());
    assert_eq!(
        carry.bytes(),
        carry.trunk().bytes(),
        "nets hold nothing behind the middle"
    );
}

/// What goes on when guidance ends is the run of the conditioned half.
#[test]
fn the_conditioned_half_goes_on_alone() {
    let pipeline = pipeline();
    let device = tested::device();
    let trunk = ControlledUNet::new(
        crate::golden::unet(&pipeline),
        vec![&pipeline.control_nets()[0]],
    );
    let width = crate::golden::unet(&pipeline).config().context_width;
    let context = |row: f64| Tensor::<3>::ones([1, 7, width], &device) * row;
    let evaluation = Evaluation {
        index: 0,
        timestep: 501.0,
    };
    let start = |context: Tensor<3>, halves: usize, guess: bool| {
        let condition = Conditioning {
            rows: Rows::new(halves, 1),
            hints: vec![Hint {
                picture: lines(72, 40).to_tensor(&device),
                scale: 0.8,
                evaluations: 0..9,
                guess,
            }],
            ..Conditioning::of_context(context)
        };
        trunk.start(&condition, &[evaluation])
    };
    let sample = Tensor::<4>::ones([1, 4, 5, 9], &device) * 0.5;
    for guess in [false, true] {
        let both = start(Tensor::cat(vec![context(0.1), context(0.7)], 0), 2, guess);
        let predict = |run: ControlledRun| {
            let prepared = trunk.prepare(&run, &[evaluation]);
            let prediction = trunk.forward(sample.clone(), &prepared);
            prediction.into_data().iter::<f32>().collect::<Vec<_>>()
        };
        let selected = predict(trunk.select(&both, 1..2));
        let alone = predict(start(context(0.7), 1, guess));
        assert_eq!(selected, alone, "guess {guess}");
    }
}

#[test]
fn an_interval_of_one_is_the_plain_run_and_controls_steer() {
    let pipeline = pipeline();
    let controls = || vec![Control::new(0, lines(72, 40))];
    let plain = run(&pipeline, &request(3, CacheRule::none(), controls()));
    for rule in [
        CacheRule::deepcache(1, 0),
        CacheRule::deepcache(1, 4),
        CacheRule::encoder_propagation(Refresh::EveryStep),
    ] {
        assert_eq!(run(&pipeline, &request(3, rule, controls())), plain);
    }
    let free = run(&pipeline, &request(3, CacheRule::none(), Vec::new()));
    assert_ne!(free, plain, "the net is not heard");
    let silent = Control {
        scale: 0.0,
        ..Control::new(0, lines(72, 40))
    };
    assert_eq!(
        run(&pipeline, &request(3, CacheRule::none(), vec![silent])),
        free
    );
    let never = Control {
        window: 0.9..0.95,
        ..Control::new(0, lines(72, 40))
    };
    assert_eq!(
        run(&pipeline, &request(3, CacheRule::none(), vec![never])),
        free
    );
}

/// A run whose net is on only at evaluations that refresh anyway or are forced to, sequential and batched.
#[test]
fn a_switch_forces_a_refresh() {
    let pipeline = pipeline();
    let control = || Control {
        window: 0.3..0.8,
        ..Control::new(0, lines(72, 40))
    };
    for rule in [
        CacheRule::deepcache_skip(2, Refresh::At(vec![0])),
        CacheRule::encoder_propagation(Refresh::At(vec![0])),
        CacheRule::encoder_propagation(Refresh::At(vec![0])).with_parallel(8),
    ] {
        let request = request(10, rule, vec![control()]);
        let resolved = request.resolve(pipeline.config()).unwrap();
        assert_eq!(resolved.windows, vec![std::ops::Range { start: 3, end: 8 }]);
        let refreshes: Vec<_> = resolved.plan.refreshes().collect();
        assert_eq!(refreshes, [0, 3, 8]);
        let generated = pipeline.generate(&request, &mut ()).unwrap();
        assert_eq!(generated.report.account.fallbacks, 0);
        assert_eq!(generated.report.account.refreshes, 3);
    }
}

/// Under propagation the nets run at the keys only; under `DeepCache` as far as the cut.
#[test]
fn nets_run_as_far_as_the_encoder_runs() {
    let pipeline = pipeline();
    let unet = crate::golden::unet(&pipeline);
    let cells = |rule: CacheRule| {
        let request = request(6, rule, vec![Control::new(0, lines(72, 40))]);
        let resolved = request.resolve(pipeline.config()).unwrap();
        let generated = pipeline.generate(&request, &mut ()).unwrap();
        let forecast = resolved.forecast(4);
        assert_eq!(generated.report.account.cells, forecast.cells);
        let kept = generated.report.account.store_bytes;
        assert_eq!(kept as u64, forecast.store_bytes);
        generated.report.account.cells
    };
    let keys = cells(CacheRule::encoder_propagation(Refresh::At(vec![0, 2])));
    assert_eq!(keys[..=unet.config().skips()], [2; 13]);
    let shallow = cells(CacheRule::deepcache(3, 1));
    assert_eq!(shallow[..4], [6, 6, 2, 2]);
}

#[test]
fn batched_propagation_is_the_sequential_one() {
    let pipeline = pipeline();
    for (guess, guidance) in [(false, 7.5), (true, 7.5), (true, 1.0)] {
        let of = |parallel: usize| {
            let rule = CacheRule::encoder_propagation(Refresh::At(vec![0, 1, 4]));
            let control = Control {
                guess,
                window: 0.0..0.7,
                ..Control::new(0, lines(72, 40))
            };
            let request = Request {
                guidance_scale: Some(guidance),
                batch: 2,
                ..request(6, rule.with_parallel(parallel), vec![control])
            };
            pipeline.generate(&request, &mut ()).unwrap().latents
        };
        let sequential = of(1);
        let reference = crate::fixture::Reference {
            shape: sequential.dims().to_vec(),
            values: sequential.into_data().iter::<f32>().collect(),
        };
        reference
            .compare(of(3), tested::tolerance(F32_CPU))
            .unwrap();
    }
}

/// `plan` of SD 1.5 with a `ControlNet`: encoder propagation with 9 keys of 50 forecasts 1.70x.
#[test]
fn propagation_spares_a_second_encoder() {
    let config = controlled("stable-diffusion-v1-5", 1);
    let blank = Picture::filled(512, 512, [255; 3]);
    let request = Request {
        sampler: Some("ddim".parse().unwrap()),
        cache: "encoder-propagation:keys=50ls".parse().unwrap(),
        controls: vec![Control::new(0, blank)],
        ..Request::new("")
    };
    let speedup = request.resolve(&config).unwrap().forecast(2).speedup();
    assert_eq!((speedup * 100.0).round() / 100.0, 1.70, "{speedup}");
}

#[test]
fn what_does_not_fit_is_refused() {
    let config = controlled("stable-diffusion-v1-5", 1);
    let blank = || Control::new(0, Picture::filled(64, 64, [0; 3]));
    let error = |control: Control| {
        let request = Request {
            size: Some((64, 64)),
            controls: vec![control],
            ..Request::new("")
        };
        let error = request.resolve(&config).unwrap_err();
        assert!(error.is_request(), "{error}");
        error.to_string()
    };
    let other = Control {
        name: "edges.png".into(),
        ..Control::new(0, Picture::filled(128, 64, [0; 3]))
    };
    let message = error(other);
    assert!(
        message.starts_with("the control image has 128x64 pixels, the picture is to have 64x64")
    );
    let hint = "have the picture as large: `--size 128x64`\nfile: edges.png";
    assert!(message.ends_with(hint), "{message}");
    let stranger = Control { net: 1, ..blank() };
    assert!(error(stranger).contains("control 0 names net 1, and there are 1"));
    for window in [0.5..0.5, -0.1..0.5, 0.0..1.5, f64::NAN..1.0] {
        assert!(error(Control { window, ..blank() }).contains("a control window from"));
    }
    let request = Request {
        steps: Some(4),
        sampler: Some("ddim".parse().unwrap()),
        size: Some((64, 64)),
        controls: vec![Control {
            window: 0.1..0.2,
            ..blank()
        }],
        ..Request::new("")
    };
    let told = request.resolve(&config).unwrap().notes.join("\n");
    let words = "does nothing: none of the 4 model calls lies as a whole in its window, 0.1 to 0.2";
    assert!(told.contains(words), "{told}");
    let loud = Control {
        scale: f64::NAN,
        ..blank()
    };
    assert!(error(loud).contains("`control_scale` is NaN"));
    let mut other = controlled("stable-diffusion-2-1", 0);
    let message = other.add_control(card()).unwrap_err().to_string();
    assert!(message.contains("for another model family"), "{message}");
}

#[test]
fn what_is_no_net_is_told_where_nets_are() {
    for (name, words) in [
        (
            "no-such-folder",
            "there is no folder or file `no-such-folder`",
        ),
        ("models/scenes", "name the folder of its part"),
        ("nobody/no-such-net", "those of the Hub are not fetched"),
        (
            "models/scenes-control/config.json",
            "name the folder it is in: `models/scenes-control`",
        ),
    ] {
        let error = ModelPart::open(name).unwrap_err();
        assert!(
            error.is_file() && error.to_string().contains(words),
            "{error}"
        );
    }
}

/// Without nets the steered trunk is the trunk.
#[test]
fn no_net_changes_nothing() {
    let pipeline = pipeline();
    let trunk = ControlledUNet::new(crate::golden::unet(&pipeline), Vec::new());
    let device = tested::device();
    let width = crate::golden::unet(&pipeline).config().context_width;
    let rows = Rows::new(1, 1);
    let evaluation = Evaluation {
        index: 0,
        timestep: 501.0,
    };
    let condition = Conditioning {
        rows,
        hints: Vec::new(),
        ..Conditioning::of_context(Tensor::<3>::ones([1, 7, width], &device))
    };
    let run = trunk.start(&condition, &[evaluation]);
    let plan = afterimage::cache::CachePlan::plain(1, trunk.cells());
    let mut session = Session::new(&trunk, &run, &plan, rows);
    let sample = || Tensor::<4>::ones([1, 4, 5, 9], &device);
    let steered = session
        .predict(&plan.spans[0], &[evaluation], sample)
        .remove(0);
    let unet = crate::golden::unet(&pipeline);
    let condition = Conditioning::of_context(Tensor::<3>::ones([1, 7, width], &device));
    let prepared = unet.prepare(&unet.start(&condition, &[evaluation]), &[evaluation]);
    let alone = unet.forward(sample(), &prepared);
    assert_eq!(
        steered.into_data().iter::<f32>().collect::<Vec<_>>(),
        alone.into_data().iter::<f32>().collect::<Vec<_>>()
    );
}
