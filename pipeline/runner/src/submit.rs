//! Sends uploads, as a device does.
//!
//! Takes    photos with their labels. Gives the number of each upload, under which its answer will come.
//! Crash    safe: sent again under the same id within an hour, an upload keeps its number.
//! Weak at  a photo put by its key, whose upload was never sent, stays in the inbox of the blob store.

use std::sync::Arc;

use dih_core::{
    BlobKey, Class, Classify, ImageId, UploadSeq,
    event::{Content, Upload},
    ports::{Blobs, StoreError},
    topology::subject,
};
use futures::{Stream, StreamExt};

use crate::{Connection, error::BusError, outgoing::Outgoing, publish::publish_one};

/// Why an upload was not taken.
#[derive(Debug, thiserror::Error)]
pub enum SubmitError {
    #[error("the upload was not taken")]
    Send(#[source] BusError),
    #[error("a photo of {bytes} bytes is too large for a message, and could not be put into the blob store")]
    Put { bytes: usize, source: StoreError },
    #[error("a photo of {bytes} bytes is too large for a message, which holds {bytes_max}; give a blob store")]
    TooLarge { bytes: usize, bytes_max: usize },
}

impl Classify for SubmitError {
    fn class(&self) -> Class {
        match self {
            Self::Send(error) => error.class(),
            Self::Put { source, .. } => source.class(),
            Self::TooLarge { .. } => Class::BadInput,
        }
    }
}

/// The broker's receipt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Receipt {
    pub upload: UploadSeq,
    /// It was sent before under the same id; this is the number it got then.
    pub again: bool,
}

/// An upload and the id under which a repeated send is recognised; None where each send counts.
pub type Submission = (Upload, Option<String>);

/// Room for all of an upload but its photo: labels, source, attributes, headers.
const ENVELOPE_BYTES: usize = 64 << 10;
/// Uploads that may wait for their receipt.
const WINDOW: usize = 64;

/// Sends uploads.
#[derive(Clone, Debug)]
pub struct Submitter {
    connection: Connection,
    blobs: Option<Arc<dyn Blobs>>,
    inline_bytes_max: usize,
}

impl Submitter {
    /// Photos that do not fit into a message wait in `blobs` until ingest takes them.
    pub fn new(connection: Connection, blobs: Option<Arc<dyn Blobs>>) -> Self {
        let inline_bytes_max = connection.payload_bytes_max().saturating_sub(ENVELOPE_BYTES);
        Self { connection, blobs, inline_bytes_max }
    }

    /// In place of what the broker's largest message leaves room for.
    #[must_use]
    pub fn inline_bytes_max(mut self, bytes: usize) -> Self {
        self.inline_bytes_max = bytes.min(self.inline_bytes_max);
        self
    }

    /// Sends one and waits for its receipt.
    pub async fn submit(&self, (upload, id): Submission) -> Result<Receipt, SubmitError> {
        let message = self.message(upload, id).await?;
        let receipt = publish_one(&self.connection, &message).await.map_err(SubmitError::Send)?;
        Ok(Receipt { upload: UploadSeq(receipt.sequence), again: receipt.duplicate })
    }

    /// Sends all in their order, many under way at once; receipts come in the same order.
    ///
    /// Sending waits for whoever reads the receipts, so memory stays bounded.
    pub fn submit_all<'a>(
        &'a self,
        uploads: impl Stream<Item = Submission> + Send + 'a,
    ) -> impl Stream<Item = Result<Receipt, SubmitError>> + Send + 'a {
        // `then` hands one after the other to the connection, which keeps their order; only receipts are awaited
        // side by side.
        let sent = uploads.then(async |(upload, id)| {
            let message = self.message(upload, id).await?;
            let receipt = crate::publish::begin(&self.connection, &message).await.map_err(SubmitError::Send)?;
            Ok((message, receipt))
        });
        let receipts = sent.map(async |sent| {
            let (message, waiting) = sent?;
            let receipt = waiting.finish(&message).await.map_err(SubmitError::Send)?;
            Ok(Receipt { upload: UploadSeq(receipt.sequence), again: receipt.duplicate })
        });
        receipts.buffered(WINDOW)
    }

    async fn message(&self, mut upload: Upload, id: Option<String>) -> Result<Outgoing, SubmitError> {
        if let Content::Inline(photo) = &upload.content
            && photo.len() > self.inline_bytes_max
        {
            let (bytes, bytes_max) = (photo.len(), self.inline_bytes_max);
            let blobs = self.blobs.as_ref().ok_or(SubmitError::TooLarge { bytes, bytes_max })?;
            let key = BlobKey::inbox(&upload.device, ImageId::of_bytes(photo));
            blobs.create(&key, photo.clone()).await.map_err(|source| SubmitError::Put { bytes, source })?;
            upload.content = Content::Stored(key);
        }
        Ok(Outgoing::new(subject::upload(&upload.device), &upload, id))
    }
}
