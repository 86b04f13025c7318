//! The encoder of T5, against transformers.

use afterimage::models::t5::{T5Config, T5EncoderModel, T5Json};
use afterimage::weights::{WeightSource, load_strict};
use burn::tensor::Tensor;

use crate::fixture::{Golden, json, shared};
use crate::tested;
use crate::tolerance::F32_CPU;

#[test]
fn masked_prompts_become_the_reference_states() {
    let Some(folder) = shared("reference/fixtures/if-stage1") else {
        return;
    };
    let (device, part) = (tested::device(), folder.join("model/text_encoder"));
    let config = T5Config::new(&json::<T5Json>(part.join("config.json"))).unwrap();
    let source = WeightSource::open(part.join("model.safetensors")).unwrap();
    let model = T5EncoderModel::new(&config, &device);
    let model = load_strict(model, &source, "text_encoder", tested::dtype()).unwrap();
    let golden = Golden::open(folder.join("cases.safetensors"));
    let bias = model.position_bias(77, &device).unwrap();
    golden.assert_close(
        "text_encoder.position_bias",
        bias,
        tested::tolerance(F32_CPU),
    );
    let ids: Tensor<2> = golden.reference("text_encoder.input_ids").on(&device);
    let mask: Tensor<2> = golden.reference("text_encoder.attention_mask").on(&device);
    let states = model.encode(ids.int(), Some(mask));
    golden.assert_close(
        "text_encoder.last_hidden_state",
        states,
        tested::tolerance(F32_CPU),
    );
}
