//! ONNX files: puts a classifier head on a backbone, as one file.
//!
//! Takes    the bytes of a backbone that has an embedding output, and a linear head.
//! Gives    the bytes of a model with outputs `probabilities` (N x labels) and the embedding; class names and
//!          preprocessing travel in its metadata. What only the old outputs needed is gone.
//! Weak at  backbones whose weights lie in other files: refused, for the result must be one file.
//!
//! `onnx/onnx.proto` is the ONNX project's own, see its first lines.

use std::collections::{BTreeMap, HashSet};

use prost::{Message, bytes::Bytes};

/// What the build script made of `onnx/onnx.proto`.
#[allow(unreachable_pub, clippy::all, missing_debug_implementations)] // not written by us
#[allow(rustdoc::all)]
mod generated {
    include!(concat!(env!("OUT_DIR"), "/onnx.rs"));
}

use generated::{
    AttributeProto, GraphProto, ModelProto, NodeProto, StringStringEntryProto, TensorProto, TensorShapeProto,
    TypeProto, ValueInfoProto, attribute_proto::AttributeType, tensor_proto, tensor_shape_proto, type_proto,
};

/// Output of the finished model: a row of probabilities a picture.
pub const PROBABILITIES: &str = "probabilities";

/// Why a backbone could not take a head.
#[derive(Debug, thiserror::Error)]
pub enum OnnxError {
    #[error("the backbone is no ONNX file")]
    Decode { source: prost::DecodeError },
    #[error("the backbone has no graph")]
    NoGraph,
    #[error("the backbone makes no `{name}`; its outputs are {outputs:?}")]
    NoEmbedding { name: String, outputs: Vec<String> },
    #[error("the backbone keeps `{tensor}` in another file; export it with its weights inside")]
    External { tensor: String },
    #[error("the head has {found} {what} where {wanted} are needed")]
    Shape { what: &'static str, found: usize, wanted: usize },
}

/// A linear classifier: softmax(weights . x + bias), where x is the embedding, of length 1 if `normalise`.
#[derive(Clone, Copy, Debug)]
pub struct HeadSpec<'a> {
    /// Name of the backbone's output that the head reads.
    pub embedding: &'a str,
    /// Whether the embedding is brought to length 1 first.
    pub normalise: bool,
    /// Row by row, one a label.
    pub weights: &'a [f32],
    /// One a label.
    pub bias: &'a [f32],
    /// Names in the order of the probabilities; stored under `labels`, one a line.
    pub labels: &'a [String],
    /// More that a user of the file must know: preprocessing, licence, origin.
    pub metadata: &'a BTreeMap<String, String>,
}

/// The backbone up to its embedding, with the head on top.
pub fn with_head(backbone: &[u8], head: &HeadSpec<'_>) -> Result<Vec<u8>, OnnxError> {
    let mut model = ModelProto::decode(backbone).map_err(|source| OnnxError::Decode { source })?;
    let mut graph = model.graph.take().ok_or(OnnxError::NoGraph)?;
    check(&graph, head)?;
    let embedding = described(&graph, head);
    keep_up_to(&mut graph, head.embedding);
    if let Some(tensor) = graph.initializer.iter().find(|t| is_external(t)) {
        return Err(OnnxError::External { tensor: tensor.name().to_owned() });
    }
    graph.output = vec![probabilities_of(&embedding, head.labels.len()), embedding];
    add_head(&mut graph, head);
    let mut metadata: BTreeMap<String, String> =
        model.metadata_props.iter().map(|entry| (entry.key().to_owned(), entry.value().to_owned())).collect();
    metadata.extend(head.metadata.clone());
    metadata.insert("labels".into(), head.labels.join("\n"));
    let entry = |(key, value)| StringStringEntryProto { key: Some(key), value: Some(value) };
    model.metadata_props = metadata.into_iter().map(entry).collect();
    model.graph = Some(graph);
    Ok(model.encode_to_vec())
}

/// The metadata of an ONNX file, such as [`with_head`] writes.
pub fn metadata(onnx: &[u8]) -> Result<BTreeMap<String, String>, OnnxError> {
    let model = ModelProto::decode(onnx).map_err(|source| OnnxError::Decode { source })?;
    let pairs = model.metadata_props.iter().map(|entry| (entry.key().to_owned(), entry.value().to_owned()));
    Ok(pairs.collect())
}

fn check(graph: &GraphProto, head: &HeadSpec<'_>) -> Result<(), OnnxError> {
    let made = graph.node.iter().any(|node| node.output.iter().any(|o| o == head.embedding));
    if !made {
        let outputs = graph.output.iter().map(|o| o.name().to_owned()).collect();
        return Err(OnnxError::NoEmbedding { name: head.embedding.to_owned(), outputs });
    }
    let labels = head.labels.len();
    if head.bias.len() != labels {
        return Err(OnnxError::Shape { what: "bias values", found: head.bias.len(), wanted: labels });
    }
    let found = head.weights.len();
    let stated = graph.output.iter().find(|o| o.name() == head.embedding).and_then(dimension);
    let wanted = match stated {
        Some(dim) => labels * dim,
        None => found.next_multiple_of(labels.max(1)),
    };
    match found == wanted && found > 0 {
        true => Ok(()),
        false => Err(OnnxError::Shape { what: "weights", found, wanted }),
    }
}

/// Second axis of a value, where the file states it.
fn dimension(value: &ValueInfoProto) -> Option<usize> {
    let Some(type_proto::Value::TensorType(tensor)) = value.r#type.as_ref()?.value.as_ref() else { return None };
    match tensor.shape.as_ref()?.dim.get(1)?.value.as_ref()? {
        tensor_shape_proto::dimension::Value::DimValue(dim) => usize::try_from(*dim).ok(),
        tensor_shape_proto::dimension::Value::DimParam(_) => None,
    }
}

/// The embedding as an output: as the file describes it, else N x dim floats.
fn described(graph: &GraphProto, head: &HeadSpec<'_>) -> ValueInfoProto {
    let known = graph.output.iter().find(|o| o.name() == head.embedding);
    let dim = head.weights.len() / head.labels.len().max(1);
    known.cloned().unwrap_or_else(|| {
        let batch = tensor_shape_proto::dimension::Value::DimParam("N".into());
        floats(head.embedding, batch, dim)
    })
}

fn probabilities_of(embedding: &ValueInfoProto, labels: usize) -> ValueInfoProto {
    let tensor = match embedding.r#type.as_ref().and_then(|t| t.value.as_ref()) {
        Some(type_proto::Value::TensorType(tensor)) => tensor.shape.as_ref(),
        _ => None,
    };
    let batch = tensor.and_then(|shape| shape.dim.first()).and_then(|dim| dim.value.clone());
    let unnamed = || tensor_shape_proto::dimension::Value::DimParam("N".into());
    floats(PROBABILITIES, batch.unwrap_or_else(unnamed), labels)
}

fn floats(name: &str, batch: tensor_shape_proto::dimension::Value, columns: usize) -> ValueInfoProto {
    use tensor_shape_proto::{Dimension, dimension::Value};
    let dim = |value| Dimension { value: Some(value), ..Dimension::default() };
    let shape = TensorShapeProto { dim: vec![dim(batch), dim(Value::DimValue(columns as i64))] };
    let elem_type = Some(tensor_proto::DataType::Float as i32);
    let tensor = type_proto::Tensor { elem_type, shape: Some(shape) };
    let r#type = TypeProto { value: Some(type_proto::Value::TensorType(tensor)), ..TypeProto::default() };
    ValueInfoProto { name: Some(name.to_owned()), r#type: Some(r#type), ..ValueInfoProto::default() }
}

/// Drops every node, weight and input that `target` does not depend on. Nodes keep their order.
fn keep_up_to(graph: &mut GraphProto, target: &str) {
    let mut needed = HashSet::from([target.to_owned()]);
    let mut kept: Vec<NodeProto> = Vec::new();
    // Nodes are sorted: whoever makes a value stands before whoever reads it.
    for node in std::mem::take(&mut graph.node).into_iter().rev() {
        if node.output.iter().any(|o| !o.is_empty() && needed.contains(o)) {
            read_by(&node, &mut needed);
            kept.push(node);
        }
    }
    kept.reverse();
    graph.node = kept;
    graph.initializer.retain(|t| needed.contains(t.name()));
    let values = |t: &generated::SparseTensorProto| t.values.as_ref().is_some_and(|v| needed.contains(v.name()));
    graph.sparse_initializer.retain(values);
    graph.input.retain(|i| needed.contains(i.name()));
    let made: HashSet<&String> = graph.node.iter().flat_map(|n| &n.output).collect();
    graph.value_info.retain(|v| v.name.as_ref().is_some_and(|n| made.contains(n)));
    graph.quantization_annotation.retain(|q| needed.contains(q.tensor_name()));
}

/// Adds all names that a node reads, those that its subgraphs take from outside included.
fn read_by(node: &NodeProto, needed: &mut HashSet<String>) {
    needed.extend(node.input.iter().filter(|i| !i.is_empty()).cloned());
    let subgraphs = node.attribute.iter().flat_map(|a| a.g.iter().chain(&a.graphs));
    for inner in subgraphs {
        inner.node.iter().for_each(|n| read_by(n, needed));
        needed.extend(inner.output.iter().map(|o| o.name().to_owned()));
    }
}

fn is_external(tensor: &TensorProto) -> bool {
    tensor.data_location == Some(tensor_proto::DataLocation::External as i32)
}

fn add_head(graph: &mut GraphProto, head: &HeadSpec<'_>) {
    let mut taken: HashSet<String> = graph.node.iter().flat_map(|n| n.output.iter().chain(&n.input)).cloned().collect();
    taken.extend(graph.initializer.iter().map(|t| t.name().to_owned()));
    // A value of the backbone that happens to be called like our output makes way.
    if taken.contains(PROBABILITIES) {
        rename(graph, PROBABILITIES, &free("backbone_probabilities", &taken));
    }
    let (labels, dim) = (head.labels.len(), head.weights.len() / head.labels.len().max(1));
    let [unit, weights, bias, logits] =
        ["head_unit", "head_weights", "head_bias", "head_logits"].map(|name| free(name, &taken));
    graph.initializer.push(tensor(&weights, &[labels, dim], head.weights));
    graph.initializer.push(tensor(&bias, &[labels], head.bias));
    let mut read = head.embedding.to_owned();
    if head.normalise {
        graph.node.push(node("LpNormalization", &[&read], &unit, &[("axis", 1), ("p", 2)]));
        read = unit;
    }
    graph.node.push(node("Gemm", &[&read, &weights, &bias], &logits, &[("transB", 1)]));
    graph.node.push(node("Softmax", &[&logits], PROBABILITIES, &[("axis", 1)]));
}

fn free(wanted: &str, taken: &HashSet<String>) -> String {
    let numbered = (2..).map(|i| format!("{wanted}_{i}"));
    let mut names = std::iter::once(wanted.to_owned()).chain(numbered);
    names.find(|name| !taken.contains(name)).expect("endless names, finitely many taken")
}

fn rename(graph: &mut GraphProto, from: &str, to: &str) {
    let names = graph.node.iter_mut().flat_map(|n| n.input.iter_mut().chain(&mut n.output));
    names.filter(|name| *name == from).for_each(|name| *name = to.to_owned());
    let values = graph.value_info.iter_mut().chain(&mut graph.input).map(|v| &mut v.name);
    let weights = graph.initializer.iter_mut().map(|t| &mut t.name);
    values.chain(weights).filter(|n| n.as_deref() == Some(from)).for_each(|n| *n = Some(to.to_owned()));
}

fn tensor(name: &str, dims: &[usize], values: &[f32]) -> TensorProto {
    TensorProto {
        name: Some(name.to_owned()),
        dims: dims.iter().map(|d| *d as i64).collect(),
        data_type: Some(tensor_proto::DataType::Float as i32),
        raw_data: Some(Bytes::from_iter(values.iter().flat_map(|v| v.to_le_bytes()))),
        ..TensorProto::default()
    }
}

fn node(op: &str, inputs: &[&str], output: &str, integers: &[(&str, i64)]) -> NodeProto {
    let attribute = |(name, value): &(&str, i64)| AttributeProto {
        name: Some((*name).to_owned()),
        r#type: Some(AttributeType::Int as i32),
        i: Some(*value),
        ..AttributeProto::default()
    };
    NodeProto {
        op_type: Some(op.to_owned()),
        name: Some(output.to_owned()),
        input: inputs.iter().map(|i| (*i).to_owned()).collect(),
        output: vec![output.to_owned()],
        attribute: integers.iter().map(attribute).collect(),
        ..NodeProto::default()
    }
}

#[cfg(test)]
#[path = "onnx_tests.rs"]
mod tests;
