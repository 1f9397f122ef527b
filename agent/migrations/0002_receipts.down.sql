DROP TABLE evidence;
DROP TABLE receipt;
