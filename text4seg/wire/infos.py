"""What servers say about themselves: models, versions, limits."""

from text4seg.descriptors import Codec
from text4seg.labels import check_shape
from text4seg.scores import IDENTITY, Calibration, Calibrations
from text4seg.segmentation import (
    GeneratorInfo,
    GeneratorSummary,
    Limits,
    ModelInfo,
    RefinerInfo,
)
from text4seg.v1 import generator_service_pb2 as generator_pb2
from text4seg.v1 import refiner_service_pb2 as refiner_pb2
from text4seg.v1 import segmentation_service_pb2 as pb
from text4seg.wire.answers import versions_from_proto, versions_to_proto
from text4seg.wire.values import (
    reading_answer,
)


def model_info_to_proto(info: ModelInfo) -> pb.GetModelInfoResponse:
    """Write the answer of GetModelInfo."""
    limits = info.limits
    return pb.GetModelInfoResponse(
        generator=pb.GeneratorSummary(
            model=info.generator.model,
            engine=info.generator.engine,
            grid_rows=info.generator.shape[0],
            grid_columns=info.generator.shape[1],
            codec=info.generator.codec.value,
        ),
        refiner_models=info.refiner_models,
        versions=versions_to_proto(info.versions),
        limits=pb.Limits(
            image_bytes=limits.image_bytes,
            image_pixels=limits.image_pixels,
            phrases=limits.phrases,
            phrase_characters=limits.phrase_characters,
            turns=limits.turns,
            conversation_characters=limits.conversation_characters,
        ),
    )


def model_info_from_proto(message: pb.GetModelInfoResponse) -> ModelInfo:
    """Read the answer of GetModelInfo.

    Raises:
        InternalError: the answer holds what this version does not know.
    """
    generator, limits = message.generator, message.limits
    with reading_answer():
        return ModelInfo(
            generator=GeneratorSummary(
                model=generator.model,
                engine=generator.engine,
                shape=check_shape((generator.grid_rows, generator.grid_columns)),
                codec=Codec(generator.codec),
            ),
            refiner_models=tuple(message.refiner_models),
            versions=versions_from_proto(message.versions),
            limits=Limits(
                image_bytes=limits.image_bytes,
                image_pixels=limits.image_pixels,
                phrases=limits.phrases,
                phrase_characters=limits.phrase_characters,
                turns=limits.turns,
                conversation_characters=limits.conversation_characters,
            ),
        )


def generator_info_to_proto(info: GeneratorInfo) -> generator_pb2.GetGeneratorInfoResponse:
    """Write the answer of GetGeneratorInfo."""
    return generator_pb2.GetGeneratorInfoResponse(
        model=info.model,
        version=info.version,
        engine=info.engine,
        grid_rows=info.shape[0],
        grid_columns=info.shape[1],
        codec=info.codec.value,
        template_version=info.template_version,
        max_tokens=info.max_tokens,
        calibration_temperature=info.calibration.cells.temperature,
        calibration_bias=info.calibration.cells.bias,
        region_calibration=_calibration_to_proto(info.calibration.regions),
        no_target_calibration=_calibration_to_proto(info.calibration.nothing),
    )


def generator_info_from_proto(message: generator_pb2.GetGeneratorInfoResponse) -> GeneratorInfo:
    """Read the answer of GetGeneratorInfo.

    Raises:
        InternalError: grid, codec or calibration cannot be.
    """
    with reading_answer():
        return GeneratorInfo(
            model=message.model,
            version=message.version,
            engine=message.engine,
            shape=check_shape((message.grid_rows, message.grid_columns)),
            codec=Codec(message.codec),
            template_version=message.template_version,
            max_tokens=message.max_tokens,
            calibration=Calibrations(
                cells=Calibration(message.calibration_temperature, message.calibration_bias),
                regions=_calibration_from_proto(message, "region_calibration"),
                nothing=_calibration_from_proto(message, "no_target_calibration"),
            ),
        )


def _calibration_to_proto(calibration: Calibration) -> generator_pb2.Calibration:
    return generator_pb2.Calibration(temperature=calibration.temperature, bias=calibration.bias)


def _calibration_from_proto(message: generator_pb2.GetGeneratorInfoResponse, field: str) -> Calibration:
    if not message.HasField(field):
        return IDENTITY
    part: generator_pb2.Calibration = getattr(message, field)
    return Calibration(part.temperature, part.bias)


def refiner_info_to_proto(info: RefinerInfo) -> refiner_pb2.GetRefinerInfoResponse:
    """Write the answer of GetRefinerInfo."""
    return refiner_pb2.GetRefinerInfoResponse(
        model=info.model, version=info.version, models=info.models, versions=info.versions
    )


def refiner_info_from_proto(message: refiner_pb2.GetRefinerInfoResponse) -> RefinerInfo:
    """Read the answer of GetRefinerInfo."""
    return RefinerInfo(message.model, message.version, tuple(message.models), tuple(message.versions))
