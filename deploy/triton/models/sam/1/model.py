"""The refiner in Triton's Python backend; all but the tensors is in services/refiner/triton_host.py."""

import json
import os
import sys

# Some builds of the backend run an isolated interpreter, which does not look at the variable by itself.
sys.path[:0] = [folder for folder in os.environ.get("PYTHONPATH", "").split(os.pathsep) if folder]

import triton_python_backend_utils as pb_utils  # noqa: E402 - found on the path from here on

from services.chassis.logs import configure_logs  # noqa: E402
from services.refiner.settings import RefinerSettings  # noqa: E402
from services.refiner.triton_host import RefinerHost, error_text  # noqa: E402
from text4seg.errors import Text4SegError  # noqa: E402

INPUTS = ("image", "coarse", "seed", "model", "return_model_info")


class TritonPythonModel:
    """What Triton calls."""

    def initialize(self, args):
        """Load the models that parameters and environment name, onto the instance's device."""
        parameters = json.loads(args["model_config"]).get("parameters", {})
        # Parameters in capitals are Triton's own.
        chosen = {name: value["string_value"] for name, value in parameters.items() if name.islower()}
        if args["model_instance_kind"] == "GPU":
            chosen.setdefault("device", f"cuda:{args['model_instance_device_id']}")
        settings = RefinerSettings(**{"model": "sam", **chosen})
        configure_logs("triton", settings.log_level)
        self._host = RefinerHost(settings)

    def execute(self, requests):
        """Answer requests one after the other."""
        return [self._respond(request) for request in requests]

    def _respond(self, request):
        tensors = {name: pb_utils.get_input_tensor_by_name(request, name) for name in INPUTS}
        inputs = {name: tensor.as_numpy() for name, tensor in tensors.items() if tensor is not None}
        try:
            outputs = self._host.answer(inputs, request.is_cancelled)
        except Text4SegError as failure:
            code, text = error_text(failure)
            error = pb_utils.TritonError(text, getattr(pb_utils.TritonError, code))
            return pb_utils.InferenceResponse(error=error)
        return pb_utils.InferenceResponse([pb_utils.Tensor(name, data) for name, data in outputs.items()])
