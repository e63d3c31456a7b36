"""A grpcio server without services, the least that a plugin in Python starts: `bare.py SOCKET`."""

import sys
from concurrent import futures

import grpc

if __name__ == "__main__":
    server = grpc.server(futures.ThreadPoolExecutor(128))
    server.add_insecure_port(f"unix:{sys.argv[1]}")
    server.start()
    server.wait_for_termination()
