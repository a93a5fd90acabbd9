//! `README.md` of a model: what it is, what it was trained on, how good it is, how to use it. Pure.

use std::fmt::Write as _;

use crate::report::TrainingReport;

pub(crate) fn card(report: &TrainingReport) -> String {
    let mut text = String::new();
    let test = &report.test;
    // Writing into a String cannot fail.
    let _ = write!(
        text,
        "# Classifier of `{version}`\n\n\
         Names {labels} labels. Trained by Deep Images Hub on {train} photos of `{version}`, stopped by {val} others,\n\
         tested on {photos} that it never saw; look-alikes do not straddle these splits. While it learns, a photo counts the\n\
         less the likelier its label is wrong (`p_label_wrong` of the manifest).\n\n\
         | measure on the test split | value |\n|---|---|\n\
         | accuracy | {accuracy:.3} |\n| macro precision | {precision:.3} |\n| macro recall | {recall:.3} |\n\
         | macro F1 | {f1:.3} |\n| calibration error | {ece:.3} |\n\n\
         | label | precision | recall | F1 | test photos |\n|---|---|---|---|---|\n",
        version = report.version,
        labels = report.labels.len(),
        train = report.train_photos,
        val = report.val_photos,
        photos = test.photos,
        accuracy = test.accuracy,
        precision = test.macro_precision,
        recall = test.macro_recall,
        f1 = test.macro_f1,
        ece = test.calibration_error,
    );
    for (label, class) in report.labels.iter().zip(&test.classes) {
        let label = label.replace('|', "\\|");
        let _ = writeln!(
            text,
            "| {label} | {:.3} | {:.3} | {:.3} | {} |",
            class.precision, class.recall, class.f1, class.support
        );
    }
    if !report.left_out.is_empty() {
        let _ = writeln!(text, "\nLeft out for too few photos to learn from: {}.", report.left_out.join(", "));
    }
    text.push_str("\n![confusion matrix](confusion.png)\n\n## Use\n\n");
    let metadata = |key: &str| report.metadata.get(key).map_or("?", String::as_str);
    let bytes = match (report.metadata.get("input_mean"), report.metadata.get("input_std")) {
        (Some(mean), Some(std)) => format!("each byte minus mean ({mean}), divided by ({std})"),
        _ => "the bytes as they are".to_owned(),
    };
    let _ = write!(
        text,
        "`model.onnx` holds backbone and head. Input `{}`: {}, {} of {} pixels a side, {}; {bytes}.\n\
         The picture is cut to its centre square of {} of the shorter side and resized ({}, antialiased).\n\
         Outputs: `probabilities` (softmax, calibrated) in the order of the labels above, which the file's metadata\n\
         repeats under `labels`, and `{}`, the feature vector.\n\n",
        metadata("input"),
        metadata("input_element"),
        metadata("input_layout"),
        metadata("input_size"),
        metadata("input_channels"),
        metadata("input_crop"),
        metadata("input_filter"),
        report.embedding,
    );
    let _ = write!(
        text,
        "## Limits\n\n\
         It knows only its labels: whatever it is shown, it names one of them. Its numbers hold for photos like those of\n\
         the data set. Only the head was trained; the backbone `{}` ({}) is as published, licence {}.\n\n\
         The file was loaded again and compared with the trainer on {} test photos: largest difference of a\n\
         probability {:.5}, allowed {:.5}. Seed {}.\n",
        report.backbone,
        metadata("source"),
        metadata("licence"),
        report.checked_photos,
        report.checked_difference,
        report.settings.tolerance,
        report.seed,
    );
    text
}
