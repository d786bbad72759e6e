"""The generator in Triton's Python backend; all but the tensors is in services/generator/triton/host.py."""

import json
import os
import sys

# Some builds of the backend run an isolated interpreter, which does not look at the variable by itself.
sys.path[:0] = [folder for folder in os.environ.get("PYTHONPATH", "").split(os.pathsep) if folder]

import triton_python_backend_utils as pb_utils  # noqa: E402 - found on the path from here on

from services.chassis.logs import configure_logs  # noqa: E402
from services.generator.settings import GeneratorSettings  # noqa: E402
from services.generator.triton.host import Call, GeneratorHost  # noqa: E402

INPUTS = (
    "text_input",
    "image",
    "stream",
    "sampling_parameters",
    "exclude_input_in_output",
    "return_finish_reason",
    "return_cumulative_logprob",
    "return_logprobs",
    "return_num_input_tokens",
    "return_num_output_tokens",
    "return_model_info",
)


class TritonReply:
    """Sends the answer to one request."""

    def __init__(self, request):
        self._sender = request.get_response_sender()

    def is_cancelled(self):
        """Say whether the caller has left."""
        return self._sender.is_cancelled()

    def send(self, outputs, last):
        """Send one response."""
        response = pb_utils.InferenceResponse([pb_utils.Tensor(name, data) for name, data in outputs.items()])
        self._sender.send(response, flags=pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL if last else 0)

    def fail(self, code, message):
        """Send an error, and the end."""
        error = pb_utils.TritonError(message, getattr(pb_utils.TritonError, code))
        response = pb_utils.InferenceResponse(error=error)
        self._sender.send(response, flags=pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL)


class TritonPythonModel:
    """What Triton calls."""

    def initialize(self, args):
        """Load the engine that parameters and environment name, onto the instance's device."""
        parameters = json.loads(args["model_config"]).get("parameters", {})
        # Parameters in capitals are Triton's own.
        chosen = {name: value["string_value"] for name, value in parameters.items() if name.islower()}
        if args["model_instance_kind"] == "GPU":
            chosen.setdefault("device", f"cuda:{args['model_instance_device_id']}")
        settings = GeneratorSettings(**{"engine": "hf", **chosen})
        configure_logs("triton", settings.log_level)
        self._host = GeneratorHost(settings)

    def execute(self, requests):
        """Hand the requests over; the answers come later."""
        for request in requests:
            tensors = {name: pb_utils.get_input_tensor_by_name(request, name) for name in INPUTS}
            inputs = {
                name: tensor.as_numpy().reshape(-1).tolist()
                for name, tensor in tensors.items()
                if tensor is not None
            }
            call = Call(inputs, TritonReply(request), request.timeout() / 1e6, request.request_id())
            self._host.submit(call)

    def finalize(self):
        """Let go of the engine."""
        self._host.close()
