"""Usage over time (加速用量): how many bytes were held, fetched and read, by volume and region, hour by hour. What was released or deleted stays."""
