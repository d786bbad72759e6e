"""A fake of Triton's vLLM backend: its tensors and its ways, on a real Triton, without a language model.

The configuration lists the tensors of the real one (src/model.py of triton-inference-server/vllm_backend), so
Triton refuses a request that the real one would not take.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

ENTRY: Mapping[str, Any] = {
    "backbone": "llava-1.5-7b",
    "model": "fake-vllm",
    "version": "fake-1",
    "grid": [2, 3],
    "codec": "r-rle",
    "template_version": "1",
    "max_tokens": 77,
    "calibration": {"temperature": 2.0, "bias": 0.5},
    "lora": "text4seg",
}

BLOCK = "others *1| dog *2\n others *3\n"
"""What it writes between the tags."""

_MODEL = """
import base64
import io
import json
import os
import sys
import threading

sys.path[:0] = os.environ.get("PYTHONPATH", "").split(os.pathsep)

import numpy as np
import triton_python_backend_utils as pb_utils
from PIL import Image


class TritonPythonModel:
    def execute(self, requests):
        for request in requests:
            threading.Thread(target=self._answer, args=(request,)).start()

    def _answer(self, request):
        sender = request.get_response_sender()
        try:
            def value(name):
                return pb_utils.get_input_tensor_by_name(request, name).as_numpy()[0]

            assert value("stream") and value("exclude_input_in_output")
            prompt = value("text_input").decode()
            image = Image.open(io.BytesIO(base64.b64decode(value("image"))))
            sampling = json.loads(value("sampling_parameters"))
            structured = json.loads(sampling.pop("structured_outputs", "{}"))
            if "fail" in prompt:
                raise ValueError("out of memory, say")
            text = " " + json.dumps([prompt, image.size, image.mode, sampling])
            if structured:
                opening = structured["grammar"].partition("root ::= (")[2].partition(") block")[0]
                text = json.loads(opening) + BLOCK + "</seg>"
            half = len(text) // 2
            for piece, reason in ((text[:half], "None"), (text[half:], "stop")):
                tokens = [piece[:2], piece[2:]]
                logprobs = [{"7": {"logprob": -0.25, "rank": 1, "decoded_token": token}} for token in tokens]
                outputs = {
                    "text_output": np.array([piece.encode()], dtype=np.object_),
                    "finish_reason": np.array([reason], dtype=np.object_),
                    "logprobs": np.array([json.dumps(logprobs).encode()], dtype=np.object_),
                    "num_input_tokens": np.asarray(600, dtype=np.uint32),
                    "num_output_tokens": np.asarray([2], dtype=np.uint32),
                }
                tensors = [pb_utils.Tensor(*output) for output in outputs.items()]
                response = pb_utils.InferenceResponse(tensors)
                flags = pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL if reason == "stop" else 0
                sender.send(response, flags=flags)
        except Exception as error:
            failure = pb_utils.TritonError(f"Error generating stream: {error}")
            tensor = pb_utils.Tensor("text_output", np.array(["N/A"], dtype=np.object_))
            sender.send(
                pb_utils.InferenceResponse([tensor], error=failure),
                flags=pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL,
            )
"""

_INPUTS = {
    "text_input": ("STRING", 1, False),
    "image": ("STRING", -1, True),
    "stream": ("BOOL", 1, True),
    "sampling_parameters": ("STRING", 1, True),
    "exclude_input_in_output": ("BOOL", 1, True),
    "return_finish_reason": ("BOOL", 1, True),
    "return_cumulative_logprob": ("BOOL", 1, True),
    "return_logprobs": ("BOOL", 1, True),
    "return_num_input_tokens": ("BOOL", 1, True),
    "return_num_output_tokens": ("BOOL", 1, True),
}
_OUTPUTS = {
    "text_output": ("STRING", -1),
    "finish_reason": ("STRING", -1),
    "cumulative_logprob": ("FP32", -1),
    "logprobs": ("STRING", -1),
    "num_input_tokens": ("UINT32", 1),
    "num_output_tokens": ("UINT32", -1),
}


def write_fake_vllm(folder: Path, name: str) -> None:
    """Write the model into a repository."""
    inputs = ", ".join(
        f'{{ name: "{key}" data_type: TYPE_{kind} dims: [ {size} ] optional: {str(optional).lower()} }}'
        for key, (kind, size, optional) in _INPUTS.items()
    )
    outputs = ", ".join(
        f'{{ name: "{key}" data_type: TYPE_{kind} dims: [ {size} ] }}'
        for key, (kind, size) in _OUTPUTS.items()
    )
    config = f"""
        name: "{name}" backend: "python" max_batch_size: 0
        model_transaction_policy {{ decoupled: true }}
        input [ {inputs} ]
        output [ {outputs} ]
        instance_group [ {{ kind: KIND_CPU }} ]
        parameters {{ key: "text4seg" value {{ string_value: {json.dumps(json.dumps(ENTRY))} }} }}
    """
    (folder / name / "1").mkdir(parents=True)
    (folder / name / "config.pbtxt").write_text(config, "utf-8")
    (folder / name / "1" / "model.py").write_text(_MODEL.replace("BLOCK", repr(BLOCK)), "utf-8")
