//! Keys and what they become.

use super::*;

fn config(extra: &str) -> Result<UNetConfig, crate::Error> {
    UNetConfig::from_json(&format!(
        r#"{{"block_out_channels":[320,640],"down_block_types":["CrossAttnDownBlock2D","DownBlock2D"],
        "up_block_types":["UpBlock2D","CrossAttnUpBlock2D"],"cross_attention_dim":768{extra}}}"#
    ))
}

#[test]
fn levels_are_resolved_outermost_first() {
    let config = config(r#","attention_head_dim":[5,10],"ignored_key":1"#).unwrap();
    assert_eq!(config.skips(), 6);
    let outer = &config.levels[0];
    assert_eq!(outer.heads, 5);
    assert_eq!(
        depths(&config),
        [(vec![1; 2], vec![1; 3]), (vec![], vec![])]
    );
    assert_eq!(config.time_width, 1280);
}

/// Of each level's encoder and decoder half.
fn depths(config: &UNetConfig) -> Vec<(Vec<usize>, Vec<usize>)> {
    let depths = |level: &Level| (level.encoder_depths.clone(), level.decoder_depths.clone());
    config.levels.iter().map(depths).collect()
}

#[test]
fn old_and_silent_files_are_read() {
    let silent = UNetConfig::from_json("{}").unwrap();
    let channels: Vec<_> = silent.levels.iter().map(|level| level.channels).collect();
    assert_eq!(channels, CHANNELS);
    let (attends, plain) = ((vec![1; 2], vec![1; 3]), (vec![], vec![]));
    assert_eq!(
        depths(&silent)[..3],
        [attends.clone(), attends.clone(), attends.clone()]
    );
    assert_eq!(depths(&silent)[3], plain);
    assert_eq!(silent.sample_size, [64, 64]);
    let old = UNetConfig::from_json(
        r#"{"block_out_channels":[320,640],"down_block_types":["UNetResCrossAttnDownBlock2D","UNetResDownBlock2D"],
        "up_block_types":["UpBlock2D","CrossAttnUpBlock2D"],"cross_attention_dim":[8,8],"sample_size":[60,80],
        "only_cross_attention":[false,false]}"#,
    )
    .unwrap();
    assert_eq!((old.sample_size, old.context_width), ([60, 80], 8));
    assert_eq!(depths(&old), [attends, plain]);
}

#[test]
fn unsupported_values_name_their_key() {
    for (extra, key) in [
        (r#","class_embed_type":"identity""#, "`class_embed_type`"),
        (r#","norm_num_groups":33"#, "`norm_num_groups`"),
        (r#","layers_per_block":[2,2,2]"#, "`layers_per_block`"),
        (r#","mid_block_type":null,"act_fn":"relu""#, "`act_fn`"),
        (r#","only_cross_attention":true"#, "`only_cross_attention`"),
        (
            r#","cross_attention_norm":"group_norm""#,
            "`cross_attention_norm`",
        ),
        (r#","addition_embed_type":"image""#, "`addition_embed_type`"),
        (
            r#","encoder_hid_dim_type":"text_proj""#,
            "`encoder_hid_dim`",
        ),
    ] {
        let error = config(extra).unwrap_err();
        assert!(
            error.is_config() && error.to_string().contains(key),
            "{error}"
        );
    }
}
/// Stage II of `DeepFloyd` IF in small.
const CASCADE: &str = r#"{"block_out_channels":[40,64],"down_block_types":["ResnetDownsampleBlock2D","SimpleCrossAttnDownBlock2D"],
    "up_block_types":["SimpleCrossAttnUpBlock2D","ResnetUpsampleBlock2D"],"mid_block_type":"UNetMidBlock2DSimpleCrossAttn",
    "layers_per_block":[2,3],"norm_num_groups":8,"attention_head_dim":16,"cross_attention_dim":64,"cross_attention_norm":"group_norm","act_fn":"gelu",
    "encoder_hid_dim":128,"encoder_hid_dim_type":"text_proj","addition_embed_type":"text","class_embed_type":"timestep",
    "resnet_time_scale_shift":"scale_shift","resnet_out_scale_factor":1.5,"mid_block_scale_factor":1.0,"resnet_skip_time_act":true,
    "time_embedding_act_fn":"gelu"}"#;

#[test]
fn what_cascades_read_is_resolved() {
    let config = UNetConfig::from_json(CASCADE).unwrap();
    let heads = |level: &Level| (level.heads, level.encoder_depths.clone(), level.layers);
    let heads: Vec<_> = config.levels.iter().map(heads).collect();
    assert_eq!(heads, [(1, vec![], 2), (4, vec![1; 3], 3)]);
    assert_eq!(
        config.attention,
        AttentionKind::TextAndMap { text_norm: true }
    );
    assert_eq!(
        (config.labels, config.resampling),
        (Some(Labels::Timesteps), Resampling::Resnet)
    );
    assert_eq!((config.text_width(), config.context_width), (128, 64));
    assert_eq!(
        (config.resnets.divisor, config.mid_divisor),
        (Some(1.5), None)
    );
    assert_eq!(config.time_activations, [Activation::Gelu]);
    let hint = "this test gives text alone";
    let error = config.check_reads_text_alone(hint).unwrap_err().to_string();
    assert!(
        error.starts_with("`class_embed_type` is `timestep`") && error.contains(hint),
        "{error}"
    );
    let mixed = CASCADE.replace("\"ResnetUpsampleBlock2D\"", "\"UpBlock2D\"");
    let error = UNetConfig::from_json(&mixed).unwrap_err().to_string();
    assert!(
        error.contains("`up_block_types[1]` is `UpBlock2D`"),
        "{error}"
    );
}

#[test]
fn levels_of_an_upscaler_may_look_at_the_text_alone() {
    let config = config(r#","only_cross_attention":[true,false],"num_class_embeds":1000"#).unwrap();
    let only: Vec<_> = config.levels.iter().map(|level| level.only_text).collect();
    assert_eq!(only, [true, false]);
    assert_eq!(config.labels, Some(Labels::Table(1000)));
    assert_eq!(config.time_activations, [Activation::Silu]);
    let told = config.check_reads_text_alone("a hint").unwrap_err();
    assert!(
        told.to_string().starts_with("`num_class_embeds` is `1000`"),
        "{told}"
    );
}

/// A null takes the middle out, an absent key does not: `BK-SDM` and its kin.
#[test]
fn the_middle_may_be_taken_out() {
    let middle = |extra| {
        let config = config(extra).unwrap();
        (config.mid_resnets, config.mid_depth)
    };
    assert_eq!(middle(""), (2, 1));
    assert_eq!(middle(r#","mid_block_type":null"#), (0, 0));
    assert_eq!(middle(r#","mid_block_type":"UNetMidBlock2D""#), (1, 0));
}

#[test]
fn a_value_of_another_kind_names_its_key() {
    let told = |extra| config(extra).unwrap_err().to_string();
    let text = told(r#","attention_head_dim":"8""#);
    assert!(
        text.starts_with(
            "`attention_head_dim` of unet is `\"8\"`: expected a whole number, or one a level"
        ),
        "{text}"
    );
    let text = told(r#","in_channels":"4""#);
    assert!(
        text.starts_with("`in_channels` of unet is `\"4\"`: invalid type"),
        "{text}"
    );
    let text = told(r#","sample_size":-64"#);
    assert!(text.contains("height and width"), "{text}");
}

#[test]
fn sizes_that_no_network_is_built_of_are_refused() {
    for (extra, said) in [
        (r#","layers_per_block":0"#, "`layers_per_block` is `[0, 0]`"),
        (r#","in_channels":0"#, "`in_channels` is `0`"),
        (r#","out_channels":0"#, "`out_channels` is `0`"),
        (r#","time_embedding_dim":0"#, "`time_embedding_dim` is `0`"),
        (r#","num_class_embeds":0"#, "`num_class_embeds` is `0`"),
        (r#","encoder_hid_dim":0"#, "`encoder_hid_dim` is `0`"),
        (r#","sample_size":[64,0]"#, "`sample_size` is `[64, 0]`"),
        (
            r#","mid_block_scale_factor":0"#,
            "`mid_block_scale_factor` is `0`",
        ),
    ] {
        let text = config(extra).unwrap_err().to_string();
        assert!(text.starts_with(said), "{text}");
    }
    for (from, to, said) in [
        ("[40,64]", "[0,64]", "`block_out_channels` is `[0, 64]`"),
        (
            "cross_attention_dim\":64",
            "cross_attention_dim\":0",
            "`cross_attention_dim` is `0`",
        ),
        (
            "cross_attention_dim\":64",
            "cross_attention_dim\":3",
            "`cross_attention_dim` is `3`",
        ),
    ] {
        let text = CASCADE.replace(from, to);
        let text = UNetConfig::from_json(&text).unwrap_err().to_string();
        assert!(text.starts_with(said), "{text}");
    }
    let plain = CASCADE
        .replace("\"group_norm\"", "null")
        .replace("cross_attention_dim\":64", "cross_attention_dim\":3");
    assert!(UNetConfig::from_json(&plain).is_ok(), "a text without norm");
}

/// As in diffusers, `act_fn` is that of residual blocks, of the time embedding and of the last norm.
#[test]
fn a_network_of_gelu_reads_texts_alone_like_others() {
    let config = config(r#","act_fn":"gelu""#).unwrap();
    assert_eq!(config.resnets.activation, Activation::Gelu);
    assert_eq!(config.time_activations, [Activation::Gelu]);
    config.check_reads_text_alone("a hint").unwrap();
}
