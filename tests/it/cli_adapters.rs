//! Adapters as options of the program.

use safetensors::tensor::{Dtype, TensorView};
use serde_json::Value;

use crate::cli::afterimage;
use crate::fixture::{Fixture, fixture};
use crate::weights::folder;

fn generate(extra: &[&str]) -> crate::cli::Ending {
    let (model, folder) = (fixture("sd15/model"), folder());
    let output = folder.path().join("out.png");
    let (model, output) = (model.to_str().unwrap(), output.to_str().unwrap());
    let fixed = [
        "generate",
        "a <two-part> fox",
        "--device",
        "cpu",
        "--steps",
        "2",
    ];
    let named = [
        "--seed", "1", "--json", "--model", model, "--output", output,
    ];
    afterimage(fixed.iter().chain(&named).chain(extra))
}

#[test]
fn adapters_are_options_and_stand_in_the_record() {
    let lora = Fixture::committed("sd15-lora").file("lora_diffusers.safetensors");
    let word = Fixture::committed("sd15-textual-inversion").file("ti_two.safetensors");
    let lora = format!("{}=0.5", lora.display());
    let word = word.to_str().unwrap();
    let ending = generate(&["--lora", &lora, "--embedding", word]);
    assert_eq!(ending.code, Some(0), "{}", ending.shown());
    let record: Value = serde_json::from_str(&ending.stdout).unwrap();
    assert_eq!(record["loras"][0], lora);
    assert_eq!(record["embeddings"][0], format!("<two-part>={word}"));
    assert!(record["custom_diffusions"].is_null());
}

#[test]
fn mistakes_name_the_file() {
    let lora = Fixture::committed("sd15-lora").file("lora_diffusers.safetensors");
    let lora = lora.to_str().unwrap();
    let wrong = format!("{lora}=much");
    generate(&["--lora", &wrong]).refused(2, &["the scale `much` is not a number"]);
    generate(&["--lora", "absent.safetensors"]).refused(1, &["file: absent.safetensors"]);
    let colon = format!("{lora}:0.5");
    let stem = lora.strip_suffix(".safetensors").unwrap();
    for (name, hint) in [
        (
            colon.as_str(),
            format!("the scale stands after `=`: `{lora}=0.5`"),
        ),
        (stem, format!("there is `{lora}`")),
        ("<lora:ink:0.8>", "its scale after `=`".into()),
        (
            "https://example.org/ink",
            "fetch it first, and name the file".into(),
        ),
        ("owner/ink-lora", "not fetched from the Hub".into()),
    ] {
        generate(&["--lora", name]).refused(1, &[&hint, &format!("file: {name}")]);
    }
    let hint = "hint: this is a LoRA: give it by `--lora`";
    generate(&["--embedding", lora]).refused(1, &["no embedding", hint, lora]);
    generate(&["--custom-diffusion", lora]).refused(1, &["no Custom Diffusion", hint, lora]);
    let word = Fixture::committed("sd15-textual-inversion").file("ti_two.safetensors");
    let hint = "hint: this is an embedding: give it by `--embedding`";
    generate(&["--lora", word.to_str().unwrap()]).refused(1, &["no LoRA", hint]);
    generate(&["--embedding", &format!("fox={lora}")]).refused(1, &["no embedding"]);
}

/// Trainers say which words call what was trained, and for which model.
#[test]
fn inspect_tells_what_the_header_says() {
    let values = [0; 16];
    let view = || TensorView::new(Dtype::F32, vec![2, 2], &values).unwrap();
    let tensors =
        ["down", "up"].map(|end| (format!("lora_unet_conv_in.lora_{end}.weight"), view()));
    let tags = r#"{"10_a": {"sks dog": 3, "grass": 9}, "2_b": {"sks dog": 8}}"#;
    let header = [
        ("ss_base_model_version", "sd_v1"),
        ("modelspec.trigger_phrase", "a sks\u{1b} dog"),
        ("ss_tag_frequency", tags),
    ];
    let header = header.map(|(key, value)| (key.to_owned(), value.to_owned()));
    let folder = folder();
    let path = folder.path().join("dog.safetensors");
    let bytes = safetensors::serialize(tensors, Some(header.into())).unwrap();
    std::fs::write(&path, bytes).unwrap();
    let ending = afterimage(["inspect", path.to_str().unwrap()]);
    let lines: Vec<&str> = ending.stdout.lines().map(str::trim).collect();
    for (title, value) in [
        ("for", "sd_v1"),
        ("trigger", "a sks  dog"),
        ("tags", "sks dog, grass"),
    ] {
        let line = |line: &&str| line.starts_with(title) && line.ends_with(value);
        assert!(lines.iter().any(line), "{}", ending.shown());
    }
}

#[test]
fn inspect_tells_what_an_adapter_is() {
    let lora = Fixture::committed("sd15-lora").file("lora_diffusers.safetensors");
    let ending = afterimage(["inspect", lora.to_str().unwrap()]);
    for words in ["kind  LoRA (", "rank  2", "unet  ", "text  of width 32"] {
        assert!(ending.stdout.contains(words), "{}", ending.shown());
    }
    let word = Fixture::committed("sd15-textual-inversion").file("ti_webui.pt");
    let ending = afterimage(["inspect", word.to_str().unwrap()]);
    for words in ["embedding", "ti_webui", "3 of width 32"] {
        assert!(ending.stdout.contains(words), "{}", ending.shown());
    }
}
