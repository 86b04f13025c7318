//! Warnings about prompts: what a model does not read as it was meant.

use safetensors::{Dtype, tensor::TensorView};

use crate::cli::{afterimage_in, generate};

#[test]
fn marks_of_other_programs_are_warned_of() {
    let folder = tempfile::tempdir().expect("a folder");
    let run = |negative: &str| {
        let ending = generate(
            folder.path(),
            &["--steps", "1", "--negative-prompt", negative],
        );
        assert_eq!(ending.code, Some(0), "{}", ending.shown());
        ending.stderr
    };
    let weighted = run("(blurred:1.3)");
    let told =
        "warning: `(blurred:1.3)` is read as it stands: weights in prompts are not read\nhint: ";
    assert!(weighted.contains(told), "{weighted}");
    assert!(run("<lora:ink:0.8>").contains("hint: use `--lora FILE=SCALE`"));
    for weighted in ["((red)) circle", "[a red circle]"] {
        assert!(run(weighted).contains("weights in prompts are not read"));
    }
    for changing in ["a red [circle|square]", "[a:b:0.5]"] {
        assert!(run(changing).contains("prompts do not change on the way"));
    }
    assert_eq!(run("blurred (out of focus), at 10:30"), "");
}

/// Words that other programs take for more than words.
#[test]
fn words_of_other_programs_are_warned_of() {
    let folder = tempfile::tempdir().expect("a folder");
    for (negative, told) in [
        (
            "a cat BREAK a dog",
            "`BREAK` is read as it stands: prompts are read as one",
        ),
        (
            "a cat++",
            "`cat++` is read as it stands: weights in prompts are not read",
        ),
        ("{red|blue}", "nothing in a prompt is drawn by lot"),
        (
            "embedding:ink",
            "hint: leave out `embedding:`, and give the file by `--embedding`",
        ),
        (
            "a cat --ar 16:9",
            "`--ar` is read as it stands: prompts hold no options",
        ),
        (r"a cat \(fox\)", "hint: leave the backslashes out"),
    ] {
        let asked = ["--steps", "1", "--negative-prompt", negative];
        let ending = generate(folder.path(), &asked);
        assert_eq!(ending.code, Some(0), "{}", ending.shown());
        assert!(ending.stderr.contains(told), "{}", ending.shown());
    }
}

/// However long a prompt is, what is cut off of it is told in a few words.
#[test]
fn long_prompts_are_not_repeated() {
    let folder = tempfile::tempdir().expect("a folder");
    let long = "a red fox ".repeat(2000);
    let ending = generate(folder.path(), &["--steps", "1", "--negative-prompt", &long]);
    assert_eq!(ending.code, Some(0), "{}", ending.shown());
    assert!(ending.stderr.contains("cut off was `"), "{}", ending.stderr);
    assert!(ending.stderr.len() < 1000, "{}", ending.stderr);
}

#[test]
fn what_does_nothing_without_guidance_is_warned_of() {
    let folder = tempfile::tempdir().expect("a folder");
    let run = |rest: &[&str]| {
        let fixed = ["--steps", "1", "--guidance-scale", "1"];
        let ending = generate(folder.path(), &[&fixed[..], rest].concat());
        assert_eq!(ending.code, Some(0), "{}", ending.shown());
        ending.stderr
    };
    let avoided = run(&["--negative-prompt", "blurred"]);
    let told = "warning: the negative prompt does nothing: this run is not guided, which it is by a `guidance_scale` above 1";
    assert!(avoided.contains(told), "{avoided}");
    let both = run(&["--guidance-rescale", "0.5", "--guidance-until", "0.5"]);
    let told = "`guidance_rescale` and `guidance_until` do nothing";
    assert!(both.contains(told), "{both}");
    assert_eq!(run(&["--negative-prompt", ""]), "");
}

#[test]
fn blocks_to_stream_that_no_model_has_are_warned_of() {
    let folder = tempfile::tempdir().expect("a folder");
    let ending = generate(folder.path(), &["--steps", "1", "--stream-weights"]);
    assert_eq!(ending.code, Some(0), "{}", ending.shown());
    let told = "warning: `stream_weights` does nothing: ";
    assert!(ending.stderr.contains(told), "{}", ending.stderr);
}

#[test]
fn an_embedding_that_stands_nowhere_is_warned_of() {
    let folder = tempfile::tempdir().expect("a folder");
    let bytes: Vec<u8> = [0.1f32; 32]
        .into_iter()
        .flat_map(f32::to_le_bytes)
        .collect();
    let vector = TensorView::new(Dtype::F32, vec![1, 32], &bytes).expect("a tensor");
    let file = safetensors::serialize([("emb_params", vector)], None).expect("a file");
    std::fs::write(folder.path().join("fox.safetensors"), file).expect("a file");
    let run = |negative: &str| {
        let embedding = ["--embedding", "<Fox>=fox.safetensors", "--steps", "1"];
        let rest = ["--negative-prompt", negative];
        let ending = generate(folder.path(), &[&embedding[..], &rest].concat());
        assert_eq!(ending.code, Some(0), "{}", ending.shown());
        ending.stderr
    };
    let told = "warning: the embedding `<Fox>` does nothing: its word is in no prompt\nhint: ";
    assert!(run("a dog").contains(told));
    assert_eq!(run("a <fox>"), "");
}

#[cfg(feature = "bundled")]
#[test]
fn the_bundled_model_says_which_words_it_knows() {
    let folder = tempfile::tempdir().expect("a folder");
    let run = |prompt: &str| {
        let fixed = ["generate", prompt, "--device", "cpu", "--steps", "1"];
        let ending = afterimage_in(folder.path(), fixed);
        assert_eq!(ending.code, Some(0), "{}", ending.shown());
        ending.stderr
    };
    let cat = run("A red cat on a Sofa, cat");
    let told = "warning: the model does not know `cat`, `sofa`\nhint: it knows a, above, ";
    assert!(cat.starts_with(told), "{cat}");
    assert_eq!(
        run("a tiny White star with a blue ring around it, dark grey background"),
        ""
    );
}
