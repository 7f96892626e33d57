% rebase("layout", title="Packages of Example")
<h1>Packages of Example</h1>
<p>{{NUMPKGS}} of them. <a href="about/">About us</a>, <a href="{{SIMPLE}}">all of them</a>.</p>
% include("lines", commands=install[:1])
