"""A grpcio server that serves nothing: what any Python plugin starts with. `bare.py SOCKET`."""

import sys
from concurrent import futures

import grpc

if __name__ == "__main__":
    server = grpc.server(futures.ThreadPoolExecutor(128))
    server.add_insecure_port(f"unix:{sys.argv[1]}")
    server.start()
    server.wait_for_termination()
