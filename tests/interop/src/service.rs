//! What the server does.

use std::pin::Pin;
use std::time::Duration;

use callboard::LoadReport;
use callboard::load::{CallLoad, LoadRecorder};
use futures_util::{Stream, StreamExt, TryStreamExt, stream};
use tonic::{Code, Request, Response, Status, Streaming};

use crate::flags::Flags;
use crate::pb::test_service_server::TestService;
use crate::pb::{
    BoolValue, EchoStatus, Empty, Payload, ResponseParameters, SimpleRequest, SimpleResponse,
    StreamingInputCallRequest, StreamingInputCallResponse, StreamingOutputCallRequest, StreamingOutputCallResponse,
    TestOrcaReport,
};

type Responses = Pin<Box<dyn Stream<Item = Result<StreamingOutputCallResponse, Status>> + Send>>;

#[derive(Debug)]
pub(crate) struct Handlers {
    pub(crate) id: String,
    pub(crate) recorder: LoadRecorder,
}

#[tonic::async_trait]
impl TestService for Handlers {
    async fn empty_call(&self, _: Request<Empty>) -> Result<Response<Empty>, Status> {
        Ok(Response::new(Empty {}))
    }

    async fn unary_call(&self, request: Request<SimpleRequest>) -> Result<Response<SimpleResponse>, Status> {
        let (_, extensions, asked) = request.into_parts();
        let compressed = extensions.get::<Flags>().and_then(|flags| flags.all().first().copied());
        expect(asked.expect_compressed, compressed)?;
        fail(asked.response_status)?;
        if let (Some(wanted), Some(load)) = (&asked.orca_per_query_report, extensions.get::<CallLoad>()) {
            load.set(|report| set(report, wanted));
        }
        let server_id = if asked.fill_server_id { self.id.clone() } else { String::new() };
        let payload = Some(payload(asked.response_size)?);
        let mut response = Response::new(SimpleResponse { payload, server_id });
        if !asked.response_compressed.is_some_and(|wanted| wanted.value) {
            response.disable_compression();
        }
        Ok(response)
    }

    type StreamingOutputCallStream = Responses;

    async fn streaming_output_call(
        &self,
        request: Request<StreamingOutputCallRequest>,
    ) -> Result<Response<Responses>, Status> {
        Ok(Response::new(responses(request.into_inner().response_parameters).boxed()))
    }

    async fn streaming_input_call(
        &self,
        request: Request<Streaming<StreamingInputCallRequest>>,
    ) -> Result<Response<StreamingInputCallResponse>, Status> {
        let flags = request.extensions().get::<Flags>().cloned().unwrap_or_default();
        let (mut requests, mut sum, mut number) = (request.into_inner(), 0, 0);
        while let Some(request) = requests.message().await? {
            expect(request.expect_compressed, flags.all().get(number).copied())?;
            sum += request.payload.map_or(0, |payload| payload.body.len());
            number += 1;
        }
        let aggregated_payload_size = i32::try_from(sum).map_err(|_| Status::out_of_range("more than 2 GiB"))?;
        Ok(Response::new(StreamingInputCallResponse { aggregated_payload_size }))
    }

    type FullDuplexCallStream = Responses;

    async fn full_duplex_call(
        &self,
        request: Request<Streaming<StreamingOutputCallRequest>>,
    ) -> Result<Response<Responses>, Status> {
        let recorder = self.recorder.clone();
        let answers = request.into_inner().and_then(move |request| {
            if let Some(wanted) = &request.orca_oob_report {
                recorder.set(|report| set(report, wanted));
            }
            let status = fail(request.response_status);
            async { status.map(|()| responses(request.response_parameters)) }
        });
        Ok(Response::new(answers.try_flatten().boxed()))
    }
}

fn payload(size: i32) -> Result<Payload, Status> {
    usize::try_from(size).map(Payload::zeros).map_err(|_| Status::invalid_argument(format!("a size of {size}")))
}

/// Refuses a message that is not as it says that it is.
fn expect(wanted: Option<BoolValue>, compressed: Option<bool>) -> Result<(), Status> {
    match wanted {
        Some(BoolValue { value }) if Some(value) != compressed => {
            Err(Status::invalid_argument(format!("compressed: {compressed:?}, expected: {value}")))
        }
        _ => Ok(()),
    }
}

/// Fails a call that is to fail.
fn fail(status: Option<EchoStatus>) -> Result<(), Status> {
    match status {
        Some(EchoStatus { code, message }) if code != 0 => Err(Status::new(Code::from_i32(code), message)),
        _ => Ok(()),
    }
}

fn set(report: &mut LoadReport, wanted: &TestOrcaReport) {
    (report.cpu_utilization, report.mem_utilization) = (wanted.cpu_utilization, wanted.memory_utilization);
    report.request_cost = wanted.request_cost.clone().into_iter().collect();
    report.utilization = wanted.utilization.clone().into_iter().collect();
}

fn responses(parameters: Vec<ResponseParameters>) -> impl Stream<Item = Result<StreamingOutputCallResponse, Status>> {
    stream::iter(parameters).then(async |wanted| {
        let wait = u64::try_from(wanted.interval_us).unwrap_or_default();
        if wait > 0 {
            tokio::time::sleep(Duration::from_micros(wait)).await;
        }
        Ok(StreamingOutputCallResponse { payload: Some(payload(wanted.size)?) })
    })
}
