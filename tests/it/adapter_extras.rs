//! What adapter files hold beside what is merged: embeddings are learned, the rest is left out with a word.

use std::path::PathBuf;

use afterimage::denoise::Observer;
use afterimage::pipeline::{Adapters, Pipeline, Request};
use afterimage::text::Embedding;
use afterimage::weights::adapt::{CustomDiffusion, Lora, Merge, Parameters};

use crate::adapter_errors::told;
use crate::adapter_files::{Made, file, made, pair, source};
use crate::adapters::{load, sd15};

/// Opens a file that it cannot use.
type Open = fn(PathBuf) -> afterimage::Error;

/// What a run says.
#[derive(Default)]
pub(crate) struct Heard(pub(crate) Vec<String>);

impl Observer for Heard {
    fn warn(&mut self, message: &str) {
        self.0.push(message.to_owned());
    }
}

/// The latents of a run, and what it says.
fn heard(pipeline: &Pipeline, prompt: &str) -> (Vec<f32>, Vec<String>) {
    let request = Request {
        steps: Some(2),
        ..Request::new(prompt)
    };
    let mut heard = Heard::default();
    let generated = pipeline.generate(&request, &mut heard).unwrap();
    (generated.latents.into_data().iter().collect(), heard.0)
}

const LAYER: &str = "lora_unet_mid_block_attentions_0_transformer_blocks_0_attn2_to_k";

fn known() -> Vec<Made> {
    pair(LAYER, &[2, 32], &[24, 2])
}

fn with_lora(tensors: &[Made]) -> Adapters {
    Adapters {
        loras: vec![Lora::from_source(&source(tensors, None)).unwrap()],
        ..Adapters::default()
    }
}

#[test]
fn what_is_of_no_use_is_left_out_with_a_word() {
    let (plain, silent) = heard(&load(&sd15(), &with_lora(&known())), "a fox");
    assert!(silent.is_empty(), "{silent:?}");
    let extras = [
        pair("lora_unet_nowhere", &[2, 4], &[4, 2]),
        pair(
            "lora_te2_text_model_encoder_layers_0_mlp_fc1",
            &[2, 32],
            &[64, 2],
        ),
        vec![
            made("lora_unet_conv_in.alpha", &[], |_| 1.0),
            made(format!("{LAYER}.lora_up.bias"), &[24], |_| 1.0),
            made("bundle_emb.word.clip_l_out", &[2, 32], |_| 1.0),
        ],
    ];
    let pipeline = load(&sd15(), &with_lora(&[known(), extras.concat()].concat()));
    let (latents, said) = heard(&pipeline, "a fox");
    assert_eq!(latents, plain);
    let [said] = said.as_slice() else {
        panic!("one warning: {said:?}")
    };
    for word in [
        "5 of the layers",
        "`lora_unet_nowhere`",
        "`lora_te2_text_model_encoder_layers_0_mlp_fc1`",
        "`lora_unet_conv_in.alpha`",
        "lora_up.bias`",
        "`bundle_emb.word.clip_l_out`",
        "made.safetensors",
    ] {
        assert!(said.contains(word), "no {word} in {said}");
    }
    let (_, said) = heard(&pipeline, "a fox");
    assert!(said.is_empty(), "said twice: {said:?}");
}

#[test]
fn bundled_embeddings_are_learned_where_they_fit() {
    let vectors = |name: &str| made(name, &[2, 32], |index| (index % 9) as f32 * 0.2 - 0.8);
    let word = |name: &str, width: usize| {
        made(
            format!("bundle_emb.{name}.string_to_param.*"),
            &[2, width],
            |index| (index % 9) as f32 * 0.2 - 0.8,
        )
    };
    let prompt = "a my.word fox";
    let alone = Adapters {
        embeddings: vec![
            Embedding::from_source(&source(&[vectors("my.word")], None), None).unwrap(),
        ],
        ..with_lora(&known())
    };
    let (expected, _) = heard(&load(&sd15(), &alone), prompt);
    let bundle = [known(), vec![word("my.word", 32)]].concat();
    let (found, said) = heard(&load(&sd15(), &with_lora(&bundle)), prompt);
    assert_eq!(found, expected);
    assert!(said.is_empty(), "{said:?}");
    // One of another width, one that the vocabulary has.
    let bundle = [bundle, vec![word("wide", 33), word("a", 32)]].concat();
    let (found, said) = heard(&load(&sd15(), &with_lora(&bundle)), prompt);
    assert_eq!(found, expected);
    assert!(
        said.len() == 2
            && said[0].contains("`a` is left out")
            && said[1].contains("`wide` is left out")
            && said[1].contains("width 33"),
        "{said:?}"
    );
    let lora = Lora::from_source(&source(&bundle, None)).unwrap();
    let words: Vec<_> = lora.words().map(|(word, _)| word).collect();
    assert_eq!(words, ["a", "my.word", "wide"]);
}

#[test]
fn alphas_may_be_of_any_shape() {
    let run = |shape: &[usize]| {
        let alpha = made(format!("{LAYER}.alpha"), shape, |_| 3.0);
        heard(
            &load(&sd15(), &with_lora(&[known(), vec![alpha]].concat())),
            "a fox",
        )
        .0
    };
    let scalar = run(&[]);
    for shape in [&[1][..], &[1, 1], &[2]] {
        assert_eq!(run(shape), scalar);
    }
}

#[test]
fn names_of_all_writers_mean_the_same_layer() {
    let model = "down_blocks.0.attentions.0.transformer_blocks.0.attn2.to_q";
    let sgm = "input_blocks.1.1.transformer_blocks.0.attn2.to_q";
    let flat = |name: &str| name.replace('.', "_");
    let run = |layer: &str| {
        heard(
            &load(&sd15(), &with_lora(&pair(layer, &[2, 16], &[16, 2]))),
            "a",
        )
    };
    let expected = run(&format!("lora_unet_{}", flat(model))).0;
    for layer in [
        format!("lora_unet_{}", flat(sgm)),
        format!("lycoris_{}", flat(model)),
        format!("unet.{model}"),
        format!("unet.{sgm}"),
        format!("base_model.model.{model}"),
        format!("diffusion_model.{sgm}"),
        format!("model.diffusion_model.{sgm}"),
    ] {
        assert_eq!(run(&layer), (expected.clone(), Vec::new()), "{layer}");
    }
    let text = "text_model.encoder.layers.0.self_attn.q_proj";
    let run = |layer: &str| {
        heard(
            &load(&sd15(), &with_lora(&pair(layer, &[2, 32], &[32, 2]))),
            "a",
        )
    };
    let expected = run(&format!("lora_te_{}", flat(text))).0;
    for layer in [
        format!("lora_te1_{}", flat(text)),
        format!("text_encoder.{text}"),
        format!("te1.{text}"),
        format!("clip_l.transformer.{text}"),
        format!("text_encoders.clip_l.transformer.{text}"),
        format!("cond_stage_model.transformer.{text}"),
    ] {
        assert_eq!(run(&layer), (expected.clone(), Vec::new()), "{layer}");
    }
}

/// A vector that torch saved alone has no name: the file's is its word.
#[test]
fn a_vector_alone_is_called_as_its_file() {
    let (_kept, path) = file("cat.safetensors", &[made("", &[1, 32], |_| 0.5)]);
    assert_eq!(Embedding::open(&path, None).unwrap().token(), "cat");
    assert_eq!(Embedding::open(&path, Some("<a>")).unwrap().token(), "<a>");
}

/// Of a file of several words one is taken by its name.
#[test]
fn one_of_several_words_is_asked_for_by_its_name() {
    let words = ["<cat>", "<dog>"].map(|word| made(word, &[1, 32], |_| 0.5));
    let (_kept, path) = file("pets.safetensors", &words);
    let dog = Embedding::open(&path, Some("<dog>")).unwrap();
    assert_eq!(
        (dog.token(), dog.left_out()),
        ("<dog>", &["<cat>".to_owned()][..])
    );
    for token in [None, Some("<fox>")] {
        let error = told(&Embedding::open(&path, token).unwrap_err(), &path);
        assert!(error.contains("hint: it holds several words"), "{error}");
    }
}

#[test]
fn values_that_are_no_numbers_name_their_file_and_tensor() {
    let broken = |name: &str, shape: &[usize]| {
        made(name, shape, |index| if index == 3 { f32::NAN } else { 0.5 })
    };
    let layer = "mid_block.attentions.0.transformer_blocks.0.attn2.processor";
    let custom = format!("{layer}.to_k_custom_diffusion.weight");
    let up = format!("{LAYER}.lora_up.weight");
    let lora = [known()[..1].to_vec(), vec![broken(&up, &[24, 2])]].concat();
    let cases: [(Vec<Made>, &str, Open); 3] = [
        (lora, &up, |path| Lora::open(path).unwrap_err()),
        (vec![broken("<x>", &[2, 32])], "<x>", |path| {
            Embedding::open(path, None).unwrap_err()
        }),
        (vec![broken(&custom, &[24, 32])], &custom, |path| {
            CustomDiffusion::open(path).unwrap_err()
        }),
    ];
    for (tensors, name, open) in cases {
        let (_kept, path) = file("broken.safetensors", &tensors);
        let text = told(&open(path.clone()), &path);
        assert!(
            text.contains(&format!("tensor `{name}` holds 1 of ")),
            "{text}"
        );
        assert!(!text.contains("--dtype"), "{text}");
    }
}

/// peft's `lora_bias`: added to the layer's bias, scaled as the product is; a layer without a bias has no place for it.
#[test]
fn biases_behind_a_product_are_added_to_the_layers_own() {
    let tensors = [
        made("unet.layer.lora_A.weight", &[2, 3], |_| 1.0),
        made("unet.layer.lora_B.weight", &[3, 2], |_| 1.0),
        made("unet.layer.lora_B.bias", &[3], |index| index as f32),
        made("unet.bare.lora_A.weight", &[2, 3], |_| 1.0),
        made("unet.bare.lora_B.weight", &[3, 2], |_| 1.0),
        made("unet.bare.lora_B.bias", &[3], |_| 1.0),
    ];
    let parameters = [Parameters::new(
        "unet",
        vec![
            ("layer.weight".into(), vec![3, 3]),
            ("layer.bias".into(), vec![3]),
            ("bare.weight".into(), vec![3, 3]),
        ],
    )];
    let base = [
        made("layer.weight", &[3, 3], |_| 0.0),
        made("layer.bias", &[3], |_| 1.0),
    ];
    let metadata = Some(r#"{"unet.r": 2, "unet.lora_alpha": 8, "unet.lora_bias": true}"#);
    let lora = Lora::from_source(&source(&tensors, metadata)).unwrap();
    let merge = Merge::resolve(&parameters, &[lora.with_scale(0.5)], &[]).unwrap();
    let merged = |name: &str| -> Vec<f32> {
        let data = merge.of("unet").read(name, &source(&base, None)).unwrap();
        data.iter().collect()
    };
    assert_eq!(merged("layer.bias"), [1.0, 3.0, 5.0]);
    assert_eq!(merged("layer.weight"), [4.0; 9]);
    let [note] = merge.notes() else {
        panic!("{:?}", merge.notes());
    };
    assert!(note.contains("`unet.bare.lora_B.bias`"), "{note}");
}
