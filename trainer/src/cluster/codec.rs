//! How the operator travels: as JSON behind a line that names it. All else is Ballista's.

use std::{path::PathBuf, sync::Arc};

use ballista_core::serde::BallistaPhysicalExtensionCodec;
use datafusion::{
    error::{DataFusionError, Result},
    execution::TaskContext,
    physical_plan::ExecutionPlan,
};
use datafusion_proto::physical_plan::{PhysicalExtensionCodec, PhysicalProtoConverterExtension};

use super::operator::{PairsExec, PairsJob};

/// Encodes and decodes plans.
#[derive(Debug)]
pub(super) struct Codec {
    ballista: BallistaPhysicalExtensionCodec,
    /// Where decoded operators spill to.
    scratch: PathBuf,
}

impl Codec {
    pub(super) fn new(scratch: PathBuf) -> Self {
        Self { ballista: BallistaPhysicalExtensionCodec::default(), scratch }
    }
}

impl PhysicalExtensionCodec for Codec {
    fn try_decode(
        &self,
        buf: &[u8],
        inputs: &[Arc<dyn ExecutionPlan>],
        ctx: &TaskContext,
        proto_converter: &dyn PhysicalProtoConverterExtension,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let Some(json) = buf.strip_prefix(NAME) else {
            return self.ballista.try_decode(buf, inputs, ctx, proto_converter);
        };
        let job: PairsJob = serde_json::from_slice(json)
            .map_err(|error| DataFusionError::Plan(format!("the operator cannot be read: {error}")))?;
        job.check_version()?;
        Ok(Arc::new(PairsExec::new(job, self.scratch.clone())))
    }

    fn try_encode(
        &self,
        node: Arc<dyn ExecutionPlan>,
        buf: &mut Vec<u8>,
        proto_converter: &dyn PhysicalProtoConverterExtension,
    ) -> Result<()> {
        let Some(pairs) = node.downcast_ref::<PairsExec>() else {
            return self.ballista.try_encode(node, buf, proto_converter);
        };
        buf.extend_from_slice(NAME);
        serde_json::to_writer(buf, pairs.job()).map_err(|error| DataFusionError::External(Box::new(error)))
    }
}

/// No message of Ballista's begins so.
const NAME: &[u8] = b"nearcast pairs\n";

#[cfg(test)]
mod tests {
    use datafusion::prelude::SessionContext;
    use datafusion_proto::physical_plan::DefaultPhysicalProtoConverter;

    use super::*;

    #[test]
    fn an_operator_arrives_as_it_was_sent_and_not_from_another_version() {
        let (codec, context) = (Codec::new("/scratch".into()), SessionContext::new().task_ctx());
        let sent = |job: PairsJob| {
            let mut bytes = Vec::new();
            let operator = Arc::new(PairsExec::new(job, PathBuf::new()));
            codec.try_encode(operator, &mut bytes, &DefaultPhysicalProtoConverter {}).unwrap();
            codec.try_decode(&bytes, &[], &context, &DefaultPhysicalProtoConverter {})
        };
        let job = PairsJob::example();
        let arrived = sent(job.clone()).unwrap();
        assert_eq!(arrived.downcast_ref::<PairsExec>().unwrap().job(), &job);
        let refused = sent(PairsJob { nearcast: "0.0.0".to_owned(), ..job }).unwrap_err().to_string();
        assert!(refused.contains("nearcast 0.0.0") && refused.contains(env!("CARGO_PKG_VERSION")), "{refused}");
    }
}
