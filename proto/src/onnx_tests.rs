//! A head takes the place of what was there, and nothing is left behind.

use super::*;

/// input -> gap -> embedding -> logits, as the default backbone ends.
fn backbone() -> ModelProto {
    let n = || tensor_shape_proto::dimension::Value::DimParam("N".into());
    let graph = GraphProto {
        node: vec![
            node("GlobalAveragePool", &["input"], "gap", &[]),
            node("Gemm", &["gap", "scale"], "embedding", &[]),
            node("Gemm", &["embedding", "fc_w"], "logits", &[]),
        ],
        initializer: vec![tensor("scale", &[2, 2], &[1.0; 4]), tensor("fc_w", &[2, 9], &[0.0; 18])],
        input: vec![floats("input", n(), 2)],
        output: vec![floats("logits", n(), 9), floats("embedding", n(), 2)],
        ..GraphProto::default()
    };
    ModelProto { ir_version: Some(8), graph: Some(graph), ..ModelProto::default() }
}

fn attach(model: &ModelProto, weights: &[f32], labels: &[&str]) -> Result<ModelProto, OnnxError> {
    let labels: Vec<String> = labels.iter().map(|l| (*l).to_owned()).collect();
    let metadata = BTreeMap::from([("mean".to_owned(), "127".to_owned())]);
    let bias = vec![0.5; labels.len()];
    let spec = HeadSpec {
        embedding: "embedding",
        normalise: true,
        weights,
        bias: &bias,
        labels: &labels,
        metadata: &metadata,
    };
    let bytes = with_head(&model.encode_to_vec(), &spec)?;
    Ok(ModelProto::decode(&bytes[..]).expect("what was written is read"))
}

fn names(graph: &GraphProto) -> Vec<&str> {
    graph.node.iter().map(NodeProto::op_type).collect()
}

#[test]
fn the_head_takes_the_place_of_the_old_classes() {
    let model = attach(&backbone(), &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0], &["a", "b", "c"]).expect("fits");
    let graph = model.graph.expect("a graph");
    assert_eq!(names(&graph), ["GlobalAveragePool", "Gemm", "LpNormalization", "Gemm", "Softmax"]);
    let weights: Vec<&str> = graph.initializer.iter().map(TensorProto::name).collect();
    assert_eq!(weights, ["scale", "head_weights", "head_bias"]);
    let outputs: Vec<(&str, Option<usize>)> = graph.output.iter().map(|o| (o.name(), dimension(o))).collect();
    assert_eq!(outputs, [("probabilities", Some(3)), ("embedding", Some(2))]);
    assert_eq!(graph.initializer[1].dims, [3, 2]);
    assert_eq!(graph.initializer[1].raw_data()[..4], 1.0_f32.to_le_bytes());
}

#[test]
fn class_names_and_preprocessing_travel_with_the_file() {
    let model = attach(&backbone(), &[0.0; 4], &["t-shirt", "hat"]).expect("fits");
    let read = metadata(&model.encode_to_vec()).expect("metadata");
    assert_eq!(read["labels"], "t-shirt\nhat");
    assert_eq!(read["mean"], "127");
}

#[test]
fn names_that_are_taken_do_not_collide() {
    let mut model = backbone();
    let graph = model.graph.as_mut().expect("a graph");
    rename(graph, "gap", PROBABILITIES);
    rename(graph, "scale", "head_weights");
    let graph = attach(&model, &[0.0; 4], &["a", "b"]).expect("fits").graph.expect("a graph");
    let mut made: Vec<&String> = graph.node.iter().flat_map(|n| &n.output).collect();
    let all = made.len();
    made.sort();
    made.dedup();
    assert_eq!(made.len(), all, "every value is made once");
    assert!(graph.initializer.iter().any(|t| t.name() == "head_weights_2"));
}

#[test]
fn what_cannot_take_a_head_is_refused_with_the_reason() {
    let refused = |bytes: &[u8]| with_head(bytes, &empty()).expect_err("refused").to_string();
    assert!(refused(b"\xff\xff no model").contains("no ONNX file"));
    assert!(refused(b"").contains("no graph"));
    let error = attach(&backbone(), &[0.0; 5], &["a", "b"]).expect_err("five weights for two labels of two");
    assert!(matches!(error, OnnxError::Shape { found: 5, wanted: 4, .. }));
    let mut model = backbone();
    let graph = model.graph.as_mut().expect("a graph");
    graph.initializer[0].data_location = Some(tensor_proto::DataLocation::External as i32);
    let error = attach(&model, &[0.0; 4], &["a", "b"]).expect_err("weights elsewhere");
    assert!(matches!(error, OnnxError::External { tensor } if tensor == "scale"));
    let graph = model.graph.as_mut().expect("a graph");
    graph.node.truncate(1);
    let error = attach(&model, &[0.0; 4], &["a", "b"]).expect_err("no embedding");
    assert!(error.to_string().contains("logits"), "{error}");
}

fn empty() -> HeadSpec<'static> {
    static NONE: BTreeMap<String, String> = BTreeMap::new();
    HeadSpec { embedding: "embedding", normalise: false, weights: &[], bias: &[], labels: &[], metadata: &NONE }
}
