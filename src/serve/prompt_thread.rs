//! The thread that parses bodies, renders prompts and tokenizes them, so that neither the connections nor the engine
//! wait for a long prompt.

use super::error::ApiError;
use crate::engine::Vocab;
use crate::prompt::Prompts;
use std::sync::mpsc::{Receiver, Sender};
use tokio::sync::oneshot;

/// Everything that turns requests into prompts.
pub(super) struct PromptTools<'m> {
    /// Templates and tokenizer.
    pub(super) prompts: Prompts<'m>,
    /// The vocabulary.
    pub(super) vocab: Vocab<'m>,
    /// Context size in tokens.
    pub(super) n_ctx: usize,
    /// Whether the context is the one that the model was trained for.
    pub(super) largest: bool,
}

/// Work for the thread.
pub(super) type Task = Box<dyn FnOnce(&PromptTools<'_>) + Send>;

/// Runs tasks until all senders are gone.
pub(super) fn run_tasks(tools: &PromptTools<'_>, tasks: &Receiver<Task>) {
    while let Ok(task) = tasks.recv() {
        task(tools);
    }
}

/// Runs `work` on the thread and waits for its result. Nothing is done if the caller is gone before its turn.
pub(super) async fn run_task<R: Send + 'static>(
    tasks: &Sender<Task>,
    work: impl FnOnce(&PromptTools<'_>) -> R + Send + 'static,
) -> Result<R, ApiError> {
    let (done, result) = oneshot::channel();
    let task: Task = Box::new(move |tools| {
        if !done.is_closed() {
            let _ = done.send(work(tools));
        }
    });
    let stopped = || ApiError::unavailable("stopping", "the server stops");
    tasks.send(task).map_err(|_| stopped())?;
    result.await.map_err(|_| stopped())
}
