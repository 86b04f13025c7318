//! Evaluations: shards that are stopped, resumed and joined lose nothing, and what does not belong together is refused.

mod manifest;

use std::{
    fs,
    path::{Path, PathBuf},
    rc::Rc,
    time::Duration,
};

use afterimage::{
    Error,
    evaluation::{
        Instruments, Joined, Made, Maker, Method, Outcome, Results, Sample, Shard, Store, Study,
        Subjects, fill, for_each_picture, measure, plot, report, write_archive,
    },
    image_io::Picture,
    metrics::{Asked, ShapeJudge},
};

const SIDE: usize = 16;

fn method(rule: &str, steps: usize, speedup_forecast: f64) -> Method {
    Method {
        rule: rule.into(),
        steps,
        sampler: None,
        converged: false,
        speedup_forecast,
        cells_forecast: steps * 25,
    }
}

fn study() -> Study {
    Study {
        version: "0.1.0".into(),
        model: "toy".into(),
        weights: "0123456789abcdef".into(),
        dtype: "f32".into(),
        sampler: "ddim".into(),
        guidance_scale: 4.0,
        width: SIDE,
        height: SIDE,
        frames: 1,
        samples: 11,
        batch: 3,
        seed: 100,
        methods: vec![
            method("none", 12, 1.0),
            method("deepcache:interval=3,branch=0", 12, 2.0),
            method("none", 6, 2.0),
        ],
        subjects: Subjects::Prompts(vec!["a red circle".into(), "a blue square".into()]),
    }
}

/// Makes pictures that depend on the seed and the method alone, and breaks down when it is told to.
#[derive(Default)]
struct Toy {
    calls: Vec<(String, usize, Vec<u64>)>,
    breaks_at_call: Option<usize>,
}

fn picture(seed: u64, method: &Method) -> Picture {
    let off = if method.is_plain() {
        12 - method.steps
    } else {
        2
    };
    Picture::from_fn(SIDE, SIDE, |x, y| {
        [(x * 7 + off) as u8, (y * 9) as u8, (seed % 251) as u8]
    })
}

impl Maker for Toy {
    fn make(&mut self, method: &Method, samples: &[Sample<'_>]) -> Result<Made, Error> {
        if self.breaks_at_call == Some(self.calls.len()) {
            return Err(Error::cancelled());
        }
        let seeds: Vec<u64> = samples.iter().map(|sample| sample.seed).collect();
        self.calls
            .push((method.rule.clone(), method.steps, seeds.clone()));
        let time = Duration::from_secs_f64(1.0 / method.speedup_forecast);
        let pictures: Vec<_> = seeds.iter().map(|&seed| picture(seed, method)).collect();
        let bytes = pictures.iter().flat_map(Picture::pixels);
        Ok(Made {
            values: bytes.map(|&byte| f32::from(byte) / 255.0).collect(),
            pictures,
            denoising: time,
            whole: time + Duration::from_millis(100),
            cells: method.cells_forecast,
        })
    }

    fn device(&self) -> String {
        "toy".into()
    }
}

fn made(folder: &Path, shard: Shard) -> Store {
    let store = Store::begin(folder, &study()).unwrap();
    fill(&store, shard, &mut Toy::default(), |_| {}).unwrap();
    store
}

fn results(folders: &[PathBuf]) -> Results {
    let instruments = Instruments {
        judge: Some(Rc::new(ShapeJudge)),
        ..Instruments::default()
    };
    measure(&Joined::open(folders).unwrap(), &instruments, |_, _| {}).unwrap()
}

#[track_caller]
fn refused(outcome: Result<impl Sized, Error>, words: &[&str]) {
    let Err(error) = outcome else {
        panic!("it was accepted")
    };
    assert!(error.is_evaluation(), "{error}");
    let text = error.to_string();
    for word in words {
        assert!(text.contains(word), "no `{word}` in {text}");
    }
}

#[test]
fn samples_have_seeds_of_their_own_and_go_round_the_prompts() {
    let study = study();
    let last = study.samples_of(3);
    let expected = [(9, 109, "a blue square"), (10, 110, "a red circle")];
    let expected = expected.map(|(index, seed, prompt)| Sample {
        index,
        seed,
        asked: Asked::Text(prompt),
    });
    assert_eq!(last, expected);
    assert_eq!(study.batches(), 4);
}

/// Whatever call the process dies in, the next one makes what is missing and nothing else.
#[test]
fn a_stopped_shard_goes_on_without_repeating_or_losing_samples() {
    let whole = tempfile::tempdir().unwrap();
    let whole = made(whole.path(), Shard::ALL);
    for call in 0..12 {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::begin(folder.path(), &study()).unwrap();
        let mut first = Toy {
            breaks_at_call: Some(call),
            ..Toy::default()
        };
        assert!(
            fill(&store, Shard::ALL, &mut first, |_| {})
                .unwrap_err()
                .is_cancelled()
        );
        let kept: Vec<bool> = (0..4).map(|batch| store.has(batch)).collect();
        assert_eq!(
            kept.iter().filter(|kept| **kept).count(),
            call / 3,
            "whole batches are kept"
        );

        let again = Store::begin(folder.path(), &study()).unwrap();
        let mut second = Toy::default();
        let tally = fill(&again, Shard::ALL, &mut second, |_| {}).unwrap();
        assert_eq!((tally.done, tally.total), (4, 4));
        assert_eq!(
            second.calls.len(),
            12 - 3 * (call / 3),
            "nothing is made twice"
        );
        for batch in 0..4 {
            let (ours, theirs) = (again.read(batch).unwrap(), whole.read(batch).unwrap());
            for method in 0..3 {
                assert_eq!(ours.pictures(method), theirs.pictures(method));
            }
        }
    }
}

#[test]
fn every_batch_begins_with_another_method() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::begin(folder.path(), &study()).unwrap();
    let mut toy = Toy::default();
    fill(&store, Shard::ALL, &mut toy, |_| {}).unwrap();
    let steps: Vec<_> = toy
        .calls
        .iter()
        .map(|(rule, steps, _)| (rule == "none", *steps))
        .collect();
    assert_eq!(
        steps[..6],
        [
            (true, 12),
            (false, 12),
            (true, 6),
            (false, 12),
            (true, 6),
            (true, 12)
        ]
    );
}

#[test]
fn joined_shards_give_the_results_of_the_whole() {
    let folders: Vec<_> = (0..3).map(|_| tempfile::tempdir().unwrap()).collect();
    let paths: Vec<PathBuf> = folders.iter().map(|folder| folder.path().into()).collect();
    made(&paths[0], Shard::ALL);
    made(&paths[1], "2/2".parse().unwrap());
    made(&paths[2], "1/2".parse().unwrap());
    let whole = results(&paths[..1]);
    let joined = results(&paths[1..]);
    assert_eq!(whole.outcomes, joined.outcomes);
    let cached = &whole.outcomes[1];
    assert_eq!(cached.speedup.median, 2.0);
    assert!((cached.mean_squared_error - 4.0 / 3.0).abs() < 1e-12);
    assert_eq!(whole.outcomes[0].psnr(), None);
    // Two of 255 levels in one of three channels.
    let expected = -10.0 * (4.0_f64 / 3.0 / 255.0 / 255.0).log10();
    let float = |outcome: &Outcome| outcome.float_psnr.expect("it is measured").mean;
    assert!((float(cached) - expected).abs() < 1e-4, "{}", float(cached));
    assert_eq!(float(&whole.outcomes[0]), 70.0);
    assert_eq!(cached.judged.unwrap().asked, 11);
    assert_eq!(whole.rounds, 3, "the first batch of a process is not timed");
}

/// Array jobs may share one folder.
#[test]
fn shards_in_one_folder_need_no_joining() {
    let folder = tempfile::tempdir().unwrap();
    for shard in ["2/3", "1/3", "3/3"] {
        made(folder.path(), shard.parse().unwrap());
    }
    assert_eq!(results(&[folder.path().into()]).outcomes.len(), 3);
}

#[test]
fn holes_duplicates_and_strangers_are_refused() {
    let folders: Vec<_> = (0..3).map(|_| tempfile::tempdir().unwrap()).collect();
    let [one, two, three] = [0, 1, 2].map(|index: usize| PathBuf::from(folders[index].path()));
    made(&one, "1/2".parse().unwrap());
    made(&two, "2/2".parse().unwrap());
    refused(
        Joined::open(std::slice::from_ref(&one)),
        &["2 of 4 batches are missing: 1, 3\nhint: "],
    );
    let twice = Joined::open(&[one.clone(), two.clone(), one.clone()]);
    refused(
        twice,
        &["batch 0 is there twice", "hint: name every folder once"],
    );
    refused(
        Joined::open(&[one.clone(), three.clone()]),
        &["there is no evaluation in this folder"],
    );

    let manifest = fs::read_to_string(two.join("manifest.json")).unwrap();
    for (field, from, to) in [
        (
            "version",
            "\"version\": \"0.1.0\"",
            "\"version\": \"0.0.9\"",
        ),
        ("weights", "0123456789abcdef", "fedcba9876543210"),
        ("seed", "\"seed\": 100", "\"seed\": 101"),
        ("methods[1].rule", "interval=3", "interval=2"),
    ] {
        assert!(manifest.contains(from), "{manifest}");
        fs::write(two.join("manifest.json"), manifest.replace(from, to)).unwrap();
        let words = [
            &format!("different evaluations: `{field}` is"),
            "hint: join what one version made",
        ];
        refused(Joined::open(&[one.clone(), two.clone()]), &words);
    }
    fs::write(
        two.join("manifest.json"),
        manifest.replace("\"toy\"", "\"/elsewhere/toy\""),
    )
    .unwrap();
    assert!(
        Joined::open(&[one, two]).is_ok(),
        "where the model lies does not count"
    );
}

#[test]
fn a_folder_keeps_to_the_evaluation_it_was_begun_with() {
    let folder = tempfile::tempdir().unwrap();
    made(folder.path(), Shard::ALL);
    let other = Study {
        samples: 12,
        ..study()
    };
    refused(
        Store::begin(folder.path(), &other),
        &[
            "another evaluation: `samples` is 11 there and 12 here",
            "manifest.json",
        ],
    );
}

#[test]
fn damaged_and_foreign_batches_are_named() {
    let [ours, theirs] = [0, 1].map(|_| tempfile::tempdir().unwrap());
    let store = made(ours.path(), Shard::ALL);
    let file = ours.path().join("batch-000001.safetensors");
    let whole = fs::read(&file).unwrap();
    fs::write(&file, &whole[..whole.len() / 2]).unwrap();
    refused(
        store.read(1),
        &[
            "a batch cannot be read",
            "hint: delete the file",
            "batch-000001",
        ],
    );
    let other = Study { seed: 7, ..study() };
    let other = Store::begin(theirs.path(), &other).unwrap();
    fill(&other, Shard::ALL, &mut Toy::default(), |_| {}).unwrap();
    fs::copy(theirs.path().join("batch-000001.safetensors"), &file).unwrap();
    refused(store.read(1), &["it belongs to another evaluation"]);
    fs::copy(ours.path().join("batch-000002.safetensors"), &file).unwrap();
    refused(store.read(1), &["it belongs to another evaluation"]);
}

#[test]
fn archives_hold_every_picture_in_order() {
    let folder = tempfile::tempdir().unwrap();
    made(folder.path(), Shard::ALL);
    let joined = Joined::open(&[folder.path().into()]).unwrap();
    let path = folder.path().join("pictures.npz");
    write_archive(&path, &joined, 1).unwrap();
    let mut read = Vec::new();
    for_each_picture(&path, &mut |picture| {
        read.push(picture);
        Ok(())
    })
    .unwrap();
    let expected: Vec<_> = (100..111)
        .map(|seed| picture(seed, &study().methods[1]))
        .collect();
    assert_eq!(read, expected);
    let bytes = fs::read(&path).unwrap();
    let has = |words: &[u8]| bytes.windows(words.len()).any(|window| window == words);
    assert!(has(
        b"{'descr': '|u1', 'fortran_order': False, 'shape': (11, 16, 16, 3,), }"
    ));
    assert!(!has(b"arr_1"), "prompts are no labels");
}

#[test]
fn labels_are_the_second_array() {
    let folder = tempfile::tempdir().unwrap();
    let classes = Study {
        subjects: Subjects::Classes(vec![(5, "boot".into()), (260, String::new())]),
        ..study()
    };
    let store = Store::begin(folder.path(), &classes).unwrap();
    fill(&store, Shard::ALL, &mut Toy::default(), |_| {}).unwrap();
    let path = folder.path().join("pictures.npz");
    write_archive(&path, &Joined::open(&[folder.path().into()]).unwrap(), 0).unwrap();
    let bytes = fs::read(&path).unwrap();
    let has = |words: &[u8]| bytes.windows(words.len()).any(|window| window == words);
    assert!(has(
        b"{'descr': '<i8', 'fortran_order': False, 'shape': (11,), }"
    ));
    assert!(has(&[5, 0, 0, 0, 0, 0, 0, 0, 4, 1, 0, 0, 0, 0, 0, 0, 5]));
}

#[test]
fn an_archive_that_cannot_be_written_and_data_that_are_none_say_so() {
    let folder = tempfile::tempdir().unwrap();
    made(folder.path(), Shard::ALL);
    let joined = Joined::open(&[folder.path().into()]).unwrap();
    let error = write_archive(&folder.path().join("missing/a.npz"), &joined, 0).unwrap_err();
    assert!(
        error.is_file() && error.to_string().contains("cannot write the pictures"),
        "{error}"
    );
    fs::remove_file(folder.path().join("batch-000002.safetensors")).unwrap();
    let path = folder.path().join("a.npz");
    let error = write_archive(&path, &joined, 0).unwrap_err();
    assert!(error.to_string().contains("batch-000002"), "{error}");
    assert!(!path.exists(), "no half archive");
    let manifest = folder.path().join("manifest.json");
    refused(
        for_each_picture(&manifest, &mut |_| Ok(())),
        &["the data cannot be used", "hint: a folder of PNG"],
    );
    let empty = tempfile::tempdir().unwrap();
    refused(
        for_each_picture(empty.path(), &mut |_| Ok(())),
        &["there is no picture"],
    );
}

#[test]
fn results_become_a_plot_and_a_page() {
    let folder = tempfile::tempdir().unwrap();
    made(folder.path(), Shard::ALL);
    let results = results(&[folder.path().into()]);
    let text = serde_json::to_string(&results).unwrap();
    let read: Results = serde_json::from_str(&text).unwrap();
    let page = |results: &Results| report(&[(results.clone(), "toy.svg".into())]);
    assert_eq!(page(&read), page(&results), "JSON keeps everything");
    let svg = plot(&results).unwrap();
    for word in [
        "<svg",
        "fewer steps",
        "deepcache",
        "measured speed-up",
        "PSNR",
    ] {
        assert!(svg.contains(word), "no `{word}` in {svg}");
    }
    insta::assert_snapshot!(page(&results));
}

/// Every method is measured to the run of most steps as well, and the page says so.
#[test]
fn a_converged_run_is_measured_to_and_not_compared_with() {
    let folder = tempfile::tempdir().unwrap();
    let mut study = study();
    study.methods.push(Method {
        converged: true,
        ..method("none", 120, 0.1)
    });
    let store = Store::begin(folder.path(), &study).unwrap();
    fill(&store, Shard::ALL, &mut Toy::default(), |_| {}).unwrap();
    let results = results(&[folder.path().into()]);
    let to_converged: Vec<_> = results
        .outcomes
        .iter()
        .map(|outcome| outcome.to_converged.unwrap().float_psnr.mean)
        .collect();
    let [plain, cached, fewer, converged] = to_converged[..] else {
        panic!("{to_converged:?}")
    };
    assert!((converged - 70.0).abs() < 1e-9, "it is itself: {converged}");
    assert!(plain < converged && cached < converged && fewer < converged);
    let page = report(&[(results, "toy.svg".into())]);
    assert!(page.contains("float PSNR to converged"), "{page}");
    assert!(page.contains("`120 steps, converged`"), "{page}");
}
