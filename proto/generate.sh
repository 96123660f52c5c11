#!/bin/sh
# Generate edgestream/cri/cri_pb2* from cri.proto.
#
# The generators live in a throwaway environment, in the oldest versions whose output fits the lower
# bounds in pyproject.toml: generated code refuses a grpcio or protobuf older than its generator.
set -eu

here=$(cd "$(dirname "$0")" && pwd)
package=$here/../edgestream/cri
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

"${PYTHON:-python3}" -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet grpcio-tools==1.68.0 mypy-protobuf==3.6.0 "setuptools<81"

# The directories below the root make the generated modules import each other by their full name.
mkdir -p "$work/source/edgestream/cri" "$work/out"
cp "$here/cri.proto" "$work/source/edgestream/cri/"
PATH="$work/venv/bin:$PATH" "$work/venv/bin/python" -m grpc_tools.protoc "-I$work/source" \
    "--python_out=$work/out" "--pyi_out=$work/out" \
    "--grpc_python_out=$work/out" "--mypy_grpc_out=$work/out" \
    edgestream/cri/cri.proto
cp "$work"/out/edgestream/cri/cri_pb2* "$package/"
