//! Experiments, seen from an operator's terminal: questions to the predictor, and its answers as text.
//!
//! | file | concern |
//! | --- | --- |
//! | `ask` | the control service: one document there, one back |
//! | `history` | what nodes measured, from their Parquet logs |
//! | `text` | documents as text |

mod ask;
mod history;
mod text;

pub(crate) use self::{
    ask::Asked,
    history::read as read_history,
    text::{changes, plan, report, status},
};
